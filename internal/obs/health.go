package obs

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Health answers whether the process lives and whether it is ready. Safe for
// concurrent use.
type Health struct {
	mu     sync.Mutex // protects checks
	checks []check
}

type check struct {
	name string
	ask  func(ctx context.Context) error
}

// checkTimeout is how long one check may take: less than what load balancers wait.
const checkTimeout = 2 * time.Second

// NewHealth makes a Health without checks: ready.
func NewHealth() *Health { return &Health{} }

// Check adds a check that must pass for the process to be ready.
func (h *Health) Check(name string, ask func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(h.checks, check{name, ask})
}

// Live answers 200 as long as the process answers at all.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"status":"alive"}` + "\n"))
	})
}

// Ready answers 200 when every check passes, and 503 with the ones that do not.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		failed := h.failing(r.Context())
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		answer := struct {
			Status  string            `json:"status"`
			Failing map[string]string `json:"failing,omitempty"`
		}{"ready", failed}
		if len(failed) > 0 {
			answer.Status = "not ready"
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
}

// failing asks all checks at once and answers those that fail.
func (h *Health) failing(ctx context.Context) map[string]string {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	errs := make([]error, len(checks))
	var asked sync.WaitGroup
	for i, c := range checks {
		asked.Go(func() { errs[i] = c.ask(ctx) }) // ends with ctx at the latest
	}
	asked.Wait()
	failed := map[string]string{}
	for i, err := range errs {
		if err != nil {
			failed[checks[i].name] = err.Error()
		}
	}
	return failed
}
