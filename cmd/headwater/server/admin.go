package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/headwater-db/headwater/api/apierrors"
)

// adminServer is what operators and schedulers ask. It has a listener of its
// own, so that none of it can be reached where callers are.
type adminServer struct{ http *http.Server }

func newAdminServer(s *Server) *adminServer {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		err := s.Unready()
		name, role := r.URL.Query().Get("namespace"), r.URL.Query().Get("role")
		if name == "" && role != "" {
			say(w, http.StatusBadRequest, "role is of a store of a namespace; give namespace too")
			return
		}
		if name != "" {
			err = s.spaces.storeUnready(r.Context(), name, role)
		}
		if err != nil {
			say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
			return
		}
		say(w, http.StatusOK, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return &adminServer{http: &http.Server{
		Handler:           forHosts(s.hosts.At(s.adminL), mux),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}
}

// forHosts refuses what is for a host that check does not take; nil takes all.
func forHosts(check func(string) error, next http.Handler) http.Handler {
	if check == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := check(r.Host); err != nil {
			e := apierrors.From(err)
			w.Header().Set("Connection", "close")
			say(w, e.HTTPStatus(), e.Message+" ("+e.Reason+")")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	// The caller has gone away when this fails; there is nobody to tell.
	_, _ = fmt.Fprintln(w, text)
}

func (a *adminServer) serve(l net.Listener) error {
	if err := a.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve admin: %w", err)
	}
	return nil
}

func (a *adminServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := a.http.Shutdown(ctx); err != nil {
		return a.http.Close()
	}
	return nil
}
