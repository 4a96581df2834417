package tokenserver

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/m2m-operator/m2m-operator/internal/token"
)

// Values of headers, made once.
var (
	valueJSON         = []string{jsonType}
	valueNoStore      = []string{"no-store"}
	valueNoCache      = []string{"no-cache"}
	valuePost         = []string{http.MethodPost}
	valueClose        = []string{"close"}
	valueAuthenticate = []string{`Basic realm="token endpoint", charset="UTF-8"`}
)

// write sends the answer.
func (h *Handler) write(w http.ResponseWriter, x *exchange) {
	status := x.problem.status
	switch status {
	case 0:
		status = http.StatusOK
	case http.StatusMethodNotAllowed:
		w.Header()["Allow"] = valuePost
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout:
		w.Header()["Connection"] = valueClose // what is left of the body isn't wanted
	case http.StatusTooManyRequests:
		w.Header()["Retry-After"] = []string{seconds(x.problem.retryAfter)}
	}
	writeJSON(w, status, x.answer)
}

// seconds is a time as Retry-After says it (RFC 9110 section 10.2.3): whole seconds, and
// never none.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64((d+time.Second-1)/time.Second)), 10)
}

// writeJSON sends an answer that nobody may keep (RFC 6749 section 5.1).
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"] = valueJSON
	header["Cache-Control"] = valueNoStore
	header["Pragma"] = valueNoCache
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	if status == http.StatusUnauthorized {
		header["Www-Authenticate"] = valueAuthenticate
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone needs no answer
}

// appendNewRequestID appends an id in the form of Stytch's: a random UUID
// (RFC 9562 version 4), and what the issuer is for.
func appendNewRequestID(dst []byte, issuer *token.Issuer, random [16]byte) []byte {
	dst = append(dst, "request-id-"...)
	if issuer != nil {
		if issuer.Live {
			dst = append(dst, "live-"...)
		} else {
			dst = append(dst, "test-"...)
		}
	}
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	for i, part := range [][]byte{random[:4], random[4:6], random[6:8], random[8:10], random[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}
