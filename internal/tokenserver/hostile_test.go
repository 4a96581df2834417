package tokenserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestBadInput: whatever a caller sends, the answer is the RFC's error, is audited
// under its reason, and is never a 500.
func TestBadInput(t *testing.T) {
	const (
		grant          = "grant_type=client_credentials"
		invalidRequest = "invalid_request"
		invalidClient  = "invalid_client"
	)
	good := jsonOf(t, goodForm)
	inJSON := func(body string) string { return request("POST", tokenPath, body, "Content-Type", jsonType) }
	withType := func(types ...string) string {
		var headers []string
		for _, v := range types {
			headers = append(headers, "Content-Type", v)
		}
		return request("POST", tokenPath, goodForm, headers...)
	}
	authorized := func(values ...string) string {
		var headers []string
		for _, v := range values {
			headers = append(headers, "Authorization", v)
		}
		return post(grant, headers...)
	}
	inQuery := func(query string) string {
		return request("POST", tokenPath+"?"+query, grant, "Content-Type", formType)
	}
	f := newFixture(t, nil)
	for name, c := range map[string]struct {
		request string
		status  int
		code    string
		reason  string
	}{
		"GET":                     {request("GET", tokenPath, ""), 405, invalidRequest, "method"},
		"GET with credentials":    {request("GET", tokenPath+"?"+goodForm, ""), 405, invalidRequest, "method"},
		"PUT":                     {request("PUT", tokenPath, goodForm, "Content-Type", formType), 405, invalidRequest, "method"},
		"OPTIONS":                 {request("OPTIONS", tokenPath, ""), 405, invalidRequest, "method"},
		"made-up method":          {request("FROB", tokenPath, ""), 405, invalidRequest, "method"},
		"unknown project":         {request("POST", "/v1/public/other/oauth2/token", goodForm, "Content-Type", formType), 404, invalidRequest, "unknown_project"},
		"long project":            {request("POST", "/v1/public/"+strings.Repeat("a", 8000)+"/oauth2/token", goodForm, "Content-Type", formType), 404, invalidRequest, "unknown_project"},
		"credentials in URL":      {inQuery("client_id=" + clientID + "&client_secret=" + secret), 400, invalidRequest, "query"},
		"escaped in URL":          {inQuery("client%5Fsecret=" + secret), 400, invalidRequest, "query"},
		"upper case in URL":       {inQuery("CLIENT_SECRET=" + secret), 400, invalidRequest, "query"},
		"grant_type in URL":       {request("POST", tokenPath+"?"+grant, goodForm, "Content-Type", formType), 400, invalidRequest, "query"},
		"malformed URL query":     {inQuery("a=%zz" + secret), 400, invalidRequest, "query"},
		"semicolons in URL query": {inQuery("a=1;client_secret=" + secret), 400, invalidRequest, "query"},

		"no content type":        {withType(), 400, invalidRequest, "content_type"},
		"two content types":      {withType(formType, formType), 400, invalidRequest, "content_type"},
		"other content type":     {withType("text/plain"), 400, invalidRequest, "content_type"},
		"multipart":              {withType("multipart/form-data; boundary=a"), 400, invalidRequest, "content_type"},
		"malformed content type": {withType(formType + "; a"), 400, invalidRequest, "content_type"},
		"unknown charset":        {withType(formType + "; charset=utf-7"), 400, invalidRequest, "content_type"},
		"list of content types":  {withType(formType + ", " + jsonType), 400, invalidRequest, "content_type"},
		"content encoding":       {post(goodForm, "Content-Encoding", "gzip"), 400, invalidRequest, "content_encoding"},
		"unknown encoding":       {post(goodForm, "Content-Encoding", "frob"), 400, invalidRequest, "content_encoding"},

		"empty body":              {post(""), 400, invalidRequest, "no_grant_type"},
		"only ampersands":         {post(strings.Repeat("&", maxBody)), 400, invalidRequest, "no_grant_type"},
		"no grant type":           {post("client_id=a&client_secret=b"), 400, invalidRequest, "no_grant_type"},
		"empty grant type":        {post("grant_type=&client_id=a&client_secret=b"), 400, invalidRequest, "no_grant_type"},
		"other grant type":        {post("grant_type=password&client_id=a&client_secret=b"), 400, "unsupported_grant_type", "grant_type"},
		"nothing to authenticate": {post(grant), 401, invalidClient, "no_credential"},
		"no secret":               {post(grant + "&client_id=" + clientID), 401, invalidClient, "no_credential"},
		"no id":                   {post(grant + "&client_secret=" + secret), 401, invalidClient, "no_credential"},

		"repeated secret":           {post(goodForm + "&client_secret=" + secret), 400, invalidRequest, "repeated_parameter"},
		"repeated empty scope":      {post(goodForm + "&scope=&scope="), 400, invalidRequest, "repeated_parameter"},
		"repeated, escaped":         {post(goodForm + "&client%5fid=other"), 400, invalidRequest, "repeated_parameter"},
		"repeated unknown":          {post(goodForm + "&a=1&a=1"), 400, invalidRequest, "repeated_parameter"},
		"thousands of parameters":   {post(goodForm + manyParameters(5000)), 400, invalidRequest, "too_many_parameters"},
		"thousands of one":          {post(goodForm + strings.Repeat("&resource=a", 5000)), 400, invalidRequest, "too_many_parameters"},
		"half an escape":            {post(goodForm + "&scope=%2"), 400, invalidRequest, "malformed_form"},
		"no escape":                 {post(goodForm + "&scope=%zz"), 400, invalidRequest, "malformed_form"},
		"no escape in a name":       {post(goodForm + "&%=1"), 400, invalidRequest, "malformed_form"},
		"semicolon":                 {post(goodForm + ";scope=a"), 400, invalidRequest, "malformed_form"},
		"NUL":                       {post(goodForm + "\x00"), 400, invalidRequest, "not_text"},
		"escaped NUL":               {post(goodForm + "%00"), 400, invalidRequest, "not_text"},
		"NUL in a name":             {post(goodForm + "&a%00=1"), 400, invalidRequest, "not_text"},
		"not UTF-8":                 {post(goodForm + "\xff"), 400, invalidRequest, "not_text"},
		"escaped, not UTF-8":        {post(goodForm + "&scope=%C3%28"), 400, invalidRequest, "not_text"},
		"overlong UTF-8":            {post(goodForm + "&scope=%C0%AF"), 400, invalidRequest, "not_text"},
		"scope of other characters": {post(goodForm + "&scope=%C3%A4"), 400, "invalid_scope", "malformed_scope"},
		"thousands of scopes":       {post(goodForm + "&scope=" + strings.Repeat("read:settings+", 4000) + "a"), 400, "invalid_scope", "malformed_scope"},
		"scope not held":            {post(goodForm + "&scope=read:users"), 400, "invalid_scope", "scope_not_held"},

		"form as JSON":           {inJSON(goodForm), 400, invalidRequest, "malformed_json"},
		"JSON as form":           {post(good), 400, invalidRequest, "no_grant_type"},
		"no JSON":                {inJSON(""), 400, invalidRequest, "malformed_json"},
		"JSON list":              {inJSON("[" + good + "]"), 400, invalidRequest, "malformed_json"},
		"JSON string":            {inJSON(`"a"`), 400, invalidRequest, "malformed_json"},
		"empty JSON object":      {inJSON("{}"), 400, invalidRequest, "no_grant_type"},
		"half of JSON":           {inJSON(good[:len(good)-1]), 400, invalidRequest, "malformed_json"},
		"trailing JSON":          {inJSON(good + good), 400, invalidRequest, "malformed_json"},
		"trailing NUL":           {inJSON(good + "\x00"), 400, invalidRequest, "malformed_json"},
		"trailing comma":         {inJSON(good[:len(good)-1] + ",}"), 400, invalidRequest, "malformed_json"},
		"byte order mark":        {inJSON("\xef\xbb\xbf" + good), 400, invalidRequest, "malformed_json"},
		"JSON with comment":      {inJSON("/**/" + good), 400, invalidRequest, "malformed_json"},
		"single quotes":          {inJSON(strings.ReplaceAll(good, `"`, "'")), 400, invalidRequest, "malformed_json"},
		"repeated in JSON":       {inJSON(`{"scope":"a",` + `"scope":null,` + good[1:]), 400, invalidRequest, "repeated_parameter"},
		"repeated, escaped JSON": {inJSON(`{"client_\u0069d":"a",` + good[1:]), 400, invalidRequest, "repeated_parameter"},
		"number":                 {inJSON(`{"scope":1,` + good[1:]), 400, invalidRequest, "not_string"},
		"boolean":                {inJSON(`{"a":true,` + good[1:]), 400, invalidRequest, "not_string"},
		"list of scopes":         {inJSON(`{"scope":["a"],` + good[1:]), 400, invalidRequest, "not_string"},
		"deep JSON":              {inJSON(`{"a":` + strings.Repeat("[", 60000)), 400, invalidRequest, "not_string"},
		"deep JSON objects":      {inJSON(strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000)), 400, invalidRequest, "not_string"},
		"deep JSON list":         {inJSON(strings.Repeat("[", 60000)), 400, invalidRequest, "malformed_json"},
		"NUL in JSON":            {inJSON(`{"scope":"\u0000",` + good[1:]), 400, invalidRequest, "not_text"},
		"control in JSON":        {inJSON("{\"scope\":\"\n\"," + good[1:]), 400, invalidRequest, "malformed_json"},
		"unknown escape":         {inJSON(`{"scope":"\x41",` + good[1:]), 400, invalidRequest, "malformed_json"},
		"half a surrogate pair":  {inJSON(`{"scope":"\ud83d",` + good[1:]), 400, invalidRequest, "malformed_json"},
		"not UTF-8 in JSON":      {inJSON("{\"scope\":\"\xff\"," + good[1:]), 400, invalidRequest, "not_text"},
		"thousands in JSON":      {inJSON("{" + manyMembers(5000) + good[1:]), 400, invalidRequest, "too_many_parameters"},

		"two secrets":                {post(goodForm, "Authorization", basic(clientID, secret)), 400, invalidRequest, "two_secrets"},
		"two ids":                    {post(grant+"&client_id=other", "Authorization", basic(clientID, secret)), 400, invalidRequest, "two_clients"},
		"project without client":     {authorized(basic(projectID, secret)), 401, invalidClient, "unknown_client"},
		"two Authorization headers":  {authorized(basic(clientID, secret), basic(clientID, secret)), 400, invalidRequest, "two_authorizations"},
		"Bearer":                     {authorized("Bearer " + secret), 401, invalidClient, "unsupported_scheme"},
		"Bearer beside a good body":  {post(goodForm, "Authorization", "Bearer a"), 401, invalidClient, "unsupported_scheme"},
		"no scheme":                  {authorized(""), 401, invalidClient, "unsupported_scheme"},
		"Basic without value":        {authorized("Basic"), 400, invalidRequest, "malformed_basic"},
		"Basic, not base64":          {authorized("Basic !!!"), 400, invalidRequest, "malformed_basic"},
		"Basic, unpadded":            {authorized(strings.TrimRight(basic("ab", "c"), "=") + "Q"), 400, invalidRequest, "malformed_basic"},
		"Basic, trailing data":       {authorized(basic("a", "bc") + " " + basic("a", "bc")), 400, invalidRequest, "malformed_basic"},
		"Basic without colon":        {authorized("Basic YWJj"), 400, invalidRequest, "malformed_basic"},
		"Basic without id":           {authorized(basic("", secret)), 400, invalidRequest, "malformed_basic"},
		"Basic, half an escape":      {authorized(basic(clientID, secret+"%2")), 400, invalidRequest, "malformed_basic"},
		"Basic, half an escaped id":  {authorized(basic(clientID+"%", secret)), 400, invalidRequest, "malformed_basic"},
		"Basic, NUL":                 {authorized(basic(clientID, secret+"\x00")), 400, invalidRequest, "malformed_basic"},
		"Basic, escaped NUL":         {authorized(basic(clientID+"%00", secret)), 400, invalidRequest, "malformed_basic"},
		"Basic, not UTF-8":           {authorized(basic(clientID+"\xff", secret)), 400, invalidRequest, "malformed_basic"},
		"Basic, no secret anywhere":  {authorized(basic(clientID, "")), 401, invalidClient, "no_credential"},
		"Basic, a huge secret":       {authorized(basic(clientID, strings.Repeat("a", 8000))), 401, invalidClient, "wrong_secret"},
		"a huge secret in the body":  {post(grant + "&client_id=" + clientID + "&client_secret=" + strings.Repeat("a", 60000)), 401, invalidClient, "wrong_secret"},
		"a huge body":                {post(strings.Repeat("a", maxBody+1)), 413, invalidRequest, "too_large"},
		"a body said to be huge":     {strings.Replace(post("a=b"), "Content-Length: 3", "Content-Length: 999999999999", 1), 413, invalidRequest, "too_large"},
		"a huge chunked body":        {chunked(strings.Repeat(chunk(strings.Repeat("a", 1000)), 70) + "0\r\n\r\n"), 413, invalidRequest, "too_large"},
		"a malformed chunked body":   {chunked("zz\r\n"), 400, invalidRequest, "broken_body"},
		"a body of very many chunks": {chunked(strings.Repeat(chunk("a"), 60000) + "0\r\n\r\n"), 400, invalidRequest, "no_grant_type"},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.send(t, c.request)
			checkRefusal(t, a, c.status, c.code)
			if allow := a.header.Get("Allow"); (allow == "POST") != (c.status == http.StatusMethodNotAllowed) {
				t.Errorf("Allow: %q", allow)
			}
			if line := f.audited(t, a); line.Outcome != c.code || line.Reason != c.reason {
				t.Errorf("audited as %+v, not %s", line, c.reason)
			}
		})
	}
}

func chunked(body string) string {
	return "POST " + tokenPath + " HTTP/1.1\r\nHost: a\r\nContent-Type: " + formType + "\r\nTransfer-Encoding: chunked\r\n\r\n" + body
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&p%d=1", i)
	}
	return b.String()
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"p%d":"1",`, i)
	}
	return b.String()
}

// TestEndless: a body without end is neither read to the end nor waited for.
func TestEndless(t *testing.T) {
	f := newFixture(t, nil)
	conn, err := net.Dial("tcp", f.address)
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, chunked(""))
	check(t, err)
	sent := make(chan int)
	go func() {
		n := 0
		for err := error(nil); err == nil; n++ {
			_, err = io.WriteString(conn, chunk(strings.Repeat("a", 1<<16)))
		}
		sent <- n
	}()
	a := read(t, conn, http.MethodPost)
	checkRefusal(t, a, http.StatusRequestEntityTooLarge, "invalid_request")
	conn.Close()
	if n := <-sent; n > 1000 {
		t.Errorf("the server took %d chunks of 64 KiB", n)
	}
}

// TestSlow: whoever sends too slowly loses the connection, and if the headers had
// come, gets an answer first.
func TestSlow(t *testing.T) {
	f := newFixture(t, func(_ *Config, s *http.Server) {
		s.ReadHeaderTimeout, s.ReadTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	whole := post(goodForm)
	t.Run("headers", func(t *testing.T) {
		conn, err := net.Dial("tcp", f.address)
		check(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, whole[:40])
		check(t, err)
		check(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("the server didn't hang up: %v", err)
		}
	})
	t.Run("body", func(t *testing.T) {
		conn, err := net.Dial("tcp", f.address)
		check(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, whole[:len(whole)-10])
		check(t, err)
		a := read(t, conn, http.MethodPost)
		checkRefusal(t, a, http.StatusRequestTimeout, "invalid_request")
		if line := f.audited(t, a); line.Reason != "slow_body" {
			t.Errorf("audited as %+v", line)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("the server didn't hang up: %v", err)
		}
	})
	t.Run("body cut off", func(t *testing.T) {
		conn, err := net.Dial("tcp", f.address)
		check(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, whole[:len(whole)-10])
		check(t, err)
		check(t, conn.(*net.TCPConn).CloseWrite())
		a := read(t, conn, http.MethodPost)
		checkRefusal(t, a, http.StatusBadRequest, "invalid_request")
	})
}

// TestServerIsBounded: no timeout and no limit of net/http's is left open.
func TestServerIsBounded(t *testing.T) {
	s := newFixture(t, nil).server
	for name, limit := range map[string]int64{
		"ReadHeaderTimeout": int64(s.ReadHeaderTimeout), "ReadTimeout": int64(s.ReadTimeout), "WriteTimeout": int64(s.WriteTimeout),
		"IdleTimeout": int64(s.IdleTimeout), "MaxHeaderBytes": int64(s.MaxHeaderBytes),
	} {
		if limit <= 0 {
			t.Errorf("%s is not set", name)
		}
	}
	if s.WriteTimeout <= s.ReadTimeout {
		t.Error("there is no time to answer a slow request")
	}
}

// FuzzExchange: any request at all is answered by a token or a refusal in the
// right form, and a token only for the right secret.
func FuzzExchange(f *testing.F) {
	f.Add("POST", "", formType, "", goodForm)
	f.Add("POST", "", jsonType, "", jsonOf(f, goodForm))
	f.Add("POST", "a=b", formType, basic(clientID, secret), "grant_type=client_credentials")
	f.Add("GET", "client_id=a", "text/plain; charset=\"", "Basic", "\x00%")
	server := newFixture(f, nil)
	f.Fuzz(func(t *testing.T, method, query, contentType, authorization, body string) {
		r := &http.Request{Method: method, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), RemoteAddr: "peer"}
		r.URL = mustParse(tokenPath)
		r.URL.RawQuery = query
		r.Header["Content-Type"] = []string{contentType}
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		w := &recorder{header: http.Header{}}
		server.handler.ServeHTTP(w, r)
		var a answer
		if err := json.Unmarshal([]byte(w.body), &a.body); err != nil {
			t.Fatalf("%s: %v", w.body, err)
		}
		a.status, a.header, a.raw = w.status, w.header, w.body
		if a.status == http.StatusOK {
			server.verify(t, a.body.AccessToken)
			return
		}
		if a.status >= 500 {
			t.Fatalf("%d %s", a.status, a.raw)
		}
		checkRefusal(t, a, a.status, a.body.Error)
	})
}

// recorder is a ResponseWriter that keeps what is written.
type recorder struct {
	header http.Header
	status int
	body   string
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) { r.status = status }

func (r *recorder) Write(b []byte) (int, error) {
	r.body += string(b)
	return len(b), nil
}
