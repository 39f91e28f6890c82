package gateway

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// policyOfContent lets a page load, call and send to nothing but this server,
// run no script but its files, and be framed by nobody.
var policyOfContent = strings.Join([]string{
	"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
	"manifest-src 'self'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'",
}, "; ")

// secure sets the headers that keep browsers from harm. All answers share them.
func secure(next http.Handler) http.Handler {
	safe := http.Header{}
	safe.Set("Content-Security-Policy", policyOfContent)
	safe.Set("X-Content-Type-Options", "nosniff")
	safe.Set("X-Frame-Options", "DENY")
	safe.Set("Referrer-Policy", "no-referrer")
	safe.Set("Cross-Origin-Opener-Policy", "same-origin")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), safe)
		next.ServeHTTP(w, r)
	})
}

// allowOrigins lets the pages of some origins call the API (the CORS protocol
// of the Fetch standard). Who calls is told by a token in a header that a page
// must know, never by a cookie, so no page acts for a user by surprise.
func allowOrigins(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if !slices.Contains(origins, origin) {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", "Retry-After, Traceparent, WWW-Authenticate, X-Trace-Id")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "DELETE, GET, PATCH, POST, PUT")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID, Traceparent")
			h.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
