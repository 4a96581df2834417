module github.com/m2m-operator/m2m-operator/examples

go 1.26.0

require (
	github.com/m2m-operator/m2m-operator/verify v0.0.0
	golang.org/x/oauth2 v0.37.0
)

require github.com/golang-jwt/jwt/v5 v5.3.1

replace github.com/m2m-operator/m2m-operator/verify => ../verify
