package tokenserver

import (
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"time"
)

// What a caller may take: a token request is some hundred bytes, and is answered
// at once.
const (
	readTimeout    = 10 * time.Second // for headers and body
	writeTimeout   = 20 * time.Second // from the end of the headers: reading the body, and writing
	idleTimeout    = 2 * time.Minute  // longer than load balancers keep connections for reuse
	maxHeaderBytes = 16 << 10
)

// NewServer returns a server with the timeouts and limits that hostile callers call
// for. Its Addr is for the caller to set, or a listener to pass.
func NewServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
}

// gcPercent lets garbage grow to four times what is alive. Signing a token leaves
// several KiB behind, so with very many clients in memory the collector, which
// visits each, would otherwise take a tenth of the CPU.
const gcPercent = 400

// TuneGC sets the garbage collector of the process for serving tokens, unless the
// environment variable GOGC does. GOMEMLIMIT still bounds the memory.
func TuneGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
