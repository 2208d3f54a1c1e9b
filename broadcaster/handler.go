package broadcaster

import (
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"

	"millrace/telemetry"
)

// HandlerConfig is what [NewHandler] takes besides the hub.
type HandlerConfig struct {
	// Address is where a request comes from, for the limit of connections per
	// address; nil: the peer of the connection.
	Address func(*http.Request) string
	Logger  *slog.Logger
}

// front is the HTTP side of a hub.
type front struct {
	hub     *Hub
	address func(*http.Request) string
	logger  *slog.Logger
}

// NewHandler answers
//
//	GET /v1/stream   server-sent events: live, past, or past-then-live
//	GET /v1/latest   {"cursor":"…","readings":[…]}: the latest values of devices
//	GET /v1/top      {"metric":"speed","devices":[{"device":…,"time":…,"value":…}]}
//
// with the parameters of [ParseQuery]. Errors are application/problem+json.
func NewHandler(hub *Hub, c HandlerConfig) http.Handler {
	f := &front{hub: hub, address: c.Address, logger: c.Logger}
	if f.address == nil {
		f.address = PeerAddress
	}
	if f.logger == nil {
		f.logger = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/stream", f.stream)
	mux.HandleFunc("GET /v1/latest", f.latest)
	mux.HandleFunc("GET /v1/top", f.top)
	return mux
}

// PeerAddress is the address of the peer of a request's connection, without the
// port.
func PeerAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (f *front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil && telemetry.ProblemOf(err).Status == http.StatusInternalServerError {
		f.logger.Error("a request failed", slog.String("path", r.URL.Path), slog.Any("error", err))
	}
	telemetry.WriteProblem(w, err)
}

// latest answers GET /v1/latest. Its cursor makes a subscription go on where
// these values were the latest.
func (f *front) latest(w http.ResponseWriter, r *http.Request) {
	filter, err := filterOf(r, "device metric where bbox")
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	if err := f.hub.Wait(r.Context(), patience); err != nil {
		f.refuse(w, r, err)
		return
	}
	readings, cursor := f.hub.Latest(&Query{Filter: filter})
	body := append([]byte(`{"cursor":"`), cursor.String()...)
	body = append(body, `","readings":[`...)
	for i, reading := range readings {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(body, '\n'), reading...)
	}
	answer(w, append(body, "]}\n"...))
}

// top answers GET /v1/top?metric=speed&n=10; order=asc gives the least.
func (f *front) top(w http.ResponseWriter, r *http.Request) {
	filter, err := filterOf(r, "device metric where bbox n order")
	if err == nil && len(filter.Metrics) != 1 {
		err = &telemetry.BadRequest{Parameter: "metric", Detail: "is missing or there are several: say by which one metric, such as metric=speed"}
	}
	n, least := 10, r.URL.Query().Get("order") == "asc"
	if text := r.URL.Query().Get("n"); text != "" && err == nil {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > maxTop {
			err = &telemetry.BadRequest{Parameter: "n", Detail: clip(text) + " is not a number from 1 to " + strconv.Itoa(maxTop)}
		}
	}
	if order := r.URL.Query().Get("order"); err == nil && order != "" && order != "asc" && order != "desc" {
		err = &telemetry.BadRequest{Parameter: "order", Detail: clip(order) + " is neither asc nor desc"}
	}
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	metric := filter.Metrics[0]
	body := []byte(`{"devices":[`)
	for i, d := range f.hub.Top(&filter, metric, n, least) {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(append(body, "\n{\"device\":\""...), d.Device...), `","time":"`...)
		body = append(telemetry.AppendTime(body, d.Time), `","value":`...)
		body = append(telemetry.Number(d.Value).AppendJSON(body), '}')
	}
	answer(w, append(appendMember(append(body, ']'), "metric", metric), "}\n"...))
}

// maxTop bounds n of /v1/top.
const maxTop = 1000

// filterOf reads a filter and refuses parameters that are not among names.
func filterOf(r *http.Request, names string) (telemetry.Filter, error) {
	values := r.URL.Query()
	for name := range values {
		if !strings.Contains(" "+names+" ", " "+name+" ") {
			return telemetry.Filter{}, &telemetry.BadRequest{Parameter: clip(name), Detail: "there is no such parameter; there are " + names}
		}
	}
	return telemetry.ParseFilter(values)
}

func answer(w http.ResponseWriter, body []byte) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // the client may have left
}
