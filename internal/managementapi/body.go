package managementapi

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
)

// maxBody bounds a body in bytes.
const maxBody = 64 << 10

// readBody never holds more than a little over maxBody.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case len(body) > maxBody:
		return nil, errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errSlowBody
	case err != nil:
		return nil, errBrokenBody
	}
	return body, nil
}

// readObject reads the members of the object that a body is. An optional one may be
// missing altogether.
func readObject(r *http.Request, optional bool) (members, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		if optional {
			return members{}, nil
		}
		return nil, errNoBody
	}
	if _, encoded := r.Header["Content-Encoding"]; encoded {
		return nil, errEncoding
	}
	if !isJSON(r.Header["Content-Type"]) {
		return nil, errContentType
	}
	return parseObject(body)
}

// isJSON tells whether a Content-Type is the one that the API takes.
func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	mediaType, attributes, err := mime.ParseMediaType(contentType[0])
	charset, ok := attributes["charset"]
	return err == nil && mediaType == "application/json" && (!ok || strings.EqualFold(charset, "utf-8"))
}
