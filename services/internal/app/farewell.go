package app

import (
	"net/http"
	"sync/atomic"
)

// farewell has clients leave while the service drains: every reply ends its
// connection, also that to a request which came before. Whoever makes no request
// until the drain ends loses an idle connection, and may be about to use it.
type farewell struct {
	leaving *atomic.Bool
	next    http.Handler
}

// ServeHTTP implements http.Handler.
func (f *farewell) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	last := &lastReply{w, f.leaving}
	f.next.ServeHTTP(last, r)
	last.part() // if nothing was written
}

// lastReply decides when the reply begins whether it is the connection's last.
type lastReply struct {
	http.ResponseWriter
	leaving *atomic.Bool
}

// part means nothing once the reply has begun.
func (l *lastReply) part() {
	if l.leaving.Load() {
		l.Header().Set("Connection", "close")
	}
}

// WriteHeader implements http.ResponseWriter.
func (l *lastReply) WriteHeader(code int) {
	l.part()
	l.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (l *lastReply) Write(p []byte) (int, error) {
	l.part()
	return l.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (l *lastReply) Unwrap() http.ResponseWriter { return l.ResponseWriter }
