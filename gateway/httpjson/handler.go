package httpjson

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Config of a Handler. The zero value is usable.
type Config struct {
	// Logger gets panics and answers that could not be written. Nil: discarded.
	Logger *slog.Logger
	// Interceptor and StreamInterceptor wrap every call, as grpc.Server's do.
	// Errors in a request's JSON come before them. Nil: none.
	Interceptor       grpc.UnaryServerInterceptor
	StreamInterceptor grpc.StreamServerInterceptor
	// Failed is told of an error that no interceptor has seen, of a method ("" where
	// it is none); nil: nobody is.
	Failed func(ctx context.Context, method string, err *apierrors.Error)
	// MaxMessageBytes limits one request message in its binary form, and raw
	// bodies of the log route. Its JSON may be 4/3 of that and 64 KiB. 0: 8 MiB.
	MaxMessageBytes int64
	// MaxStreamBytes limits the body of a client stream. 0: 128 MiB.
	MaxStreamBytes int64
	// MaxValueBytes limits the raw body of a key-value PUT. 0: 1 MiB.
	MaxValueBytes int64
	// DefaultTimeout is the deadline of a call that asks for none, and of
	// receiving the request of a stream. 0: 5 s.
	DefaultTimeout time.Duration
	// MaxTimeout is the longest deadline that a call may ask for. 0: 60 s.
	MaxTimeout time.Duration
	// WriteTimeout is how long one message may take to be sent. 0: 30 s.
	WriteTimeout time.Duration
	// CheckHost refuses a Host header that the server does not answer to, before the
	// body is read. Nil: none is refused.
	CheckHost func(host string) error
	// Version is told in the OpenAPI document. Empty: "1".
	Version string
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		field *int64
		value int64
	}{{&c.MaxMessageBytes, 8 << 20}, {&c.MaxStreamBytes, 128 << 20}, {&c.MaxValueBytes, 1 << 20}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct{ field, value *time.Duration }{
		{&c.DefaultTimeout, new(5 * time.Second)}, {&c.MaxTimeout, new(60 * time.Second)}, {&c.WriteTimeout, new(30 * time.Second)},
	} {
		if *d.field == 0 {
			*d.field = *d.value
		}
	}
	if c.Version == "" {
		c.Version = "1"
	}
	return c
}

// jsonLimit is the most bytes that the JSON of one message may have.
func (c *Config) jsonLimit() int64 { return c.MaxMessageBytes/3*4 + 64<<10 }

// Handler serves the services that were registered. Register everything before
// the first request; after that it may be used concurrently.
type Handler struct {
	cfg      Config
	methods  map[string]*method // by path, "/headwater.v1.AdminService/Status"
	services []protoreflect.ServiceDescriptor
	plain    []plainRoutes
	openapi  func() ([]byte, error)
}

// plainRoutes are the plain routes of one abstraction.
type plainRoutes struct {
	prefix string // of their paths, with a slash at its end
	// serve answers a request for prefix and what follows it, split at slashes and
	// still escaped.
	serve func(x *exchange, escaped []string)
	// document puts them into the paths of the OpenAPI document.
	document func(paths object, s schemas)
}

var _ grpc.ServiceRegistrar = (*Handler)(nil)

// method is one RPC.
type method struct {
	path   string
	desc   protoreflect.MethodDescriptor
	srv    any
	unary  *grpc.MethodDesc // exactly one of unary and stream is set
	stream *grpc.StreamDesc
	write  bool
}

// New makes a Handler without services.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg.withDefaults(), methods: make(map[string]*method)}
	h.openapi = h.openapiOnce()
	return h
}

// RegisterService adds a service, so that the generated Register functions take
// a Handler like a grpc.Server. It panics on what only a mistake in the program
// can cause: impl does not implement the service, the service is registered
// already, or its descriptor is unknown.
func (h *Handler) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if want := reflect.TypeOf(desc.HandlerType).Elem(); !reflect.TypeOf(impl).Implements(want) {
		panic(fmt.Sprintf("httpjson: %T does not implement %v", impl, want))
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
	if err != nil {
		panic(fmt.Sprintf("httpjson: descriptor of %s: %v", desc.ServiceName, err))
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		panic(fmt.Sprintf("httpjson: %s is not a service", desc.ServiceName))
	}
	for i := range desc.Methods {
		h.add(sd, desc.Methods[i].MethodName, &method{srv: impl, unary: &desc.Methods[i]})
	}
	for i := range desc.Streams {
		h.add(sd, desc.Streams[i].StreamName, &method{srv: impl, stream: &desc.Streams[i]})
	}
	h.services = append(h.services, sd)
}

func (h *Handler) add(sd protoreflect.ServiceDescriptor, name string, m *method) {
	m.path = "/" + string(sd.FullName()) + "/" + name
	m.desc = sd.Methods().ByName(protoreflect.Name(name))
	if m.desc == nil || h.methods[m.path] != nil {
		panic(fmt.Sprintf("httpjson: %s is unknown or registered twice", m.path))
	}
	if m.stream != nil && m.stream.ClientStreams && m.stream.ServerStreams {
		panic(fmt.Sprintf("httpjson: %s streams both ways", m.path))
	}
	m.write = Writes(m.desc)
	h.methods[m.path] = m
}

// Writes reports whether a method changes something, as its definition says: the
// errors of one that does carry an outcome.
func Writes(m protoreflect.MethodDescriptor) bool {
	opts, ok := m.Options().(*descriptorpb.MethodOptions)
	return !ok || opts.GetIdempotencyLevel() != descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// registerPlain adds routes, in place of those of the same prefix.
func (h *Handler) registerPlain(r plainRoutes) {
	for i := range h.plain {
		if h.plain[i].prefix == r.prefix {
			h.plain[i] = r
			return
		}
	}
	h.plain = append(h.plain, r)
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{h: h, w: w, r: r, id: requestID(r)}
	handles(r)
	defer x.release()
	defer x.recover()
	w.Header().Set("X-Request-Id", x.id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if h.cfg.CheckHost != nil {
		if err := h.cfg.CheckHost(r.Host); err != nil {
			x.write = !reads(r.Method)
			w.Header().Set("Connection", "close") // rather than read the body for nothing
			x.fail(err)
			return
		}
	}
	if err := sameOrigin.Check(r); err != nil {
		x.write = !reads(r.Method)
		x.fail(apierrors.Wrap(apierrors.CrossOrigin, err, "the request comes from a web page of another origin; call the API from a program"))
		return
	}
	path := r.URL.EscapedPath()
	if m := h.methods[path]; m != nil {
		x.rpc(m)
		return
	}
	for i := range h.plain {
		if rest, ok := strings.CutPrefix(path, h.plain[i].prefix); ok {
			h.plain[i].serve(x, strings.Split(rest, "/"))
			return
		}
	}
	switch {
	case path == "/openapi.json":
		x.serveOpenAPI()
	case rpcPath(path):
		x.notOffered()
	default:
		x.notFound()
	}
}

// sameOrigin refuses what a browser sends for a page of another origin: the API
// listens on localhost without credentials in its first session.
var sameOrigin = http.NewCrossOriginProtection()

// exchange is one request and its answer.
type exchange struct {
	h     *Handler
	w     http.ResponseWriter
	r     *http.Request
	id    string // the request's
	path  string // of the RPC; "" of a plain route
	write bool   // its errors carry an outcome
	token *headwaterv1.IdempotencyToken
	// unpacker reads the body where it is packed with zstd.
	unpacker *zstd.Decoder
	started  bool // the status line is out
	pushed   bool // a write deadline is set
	ndjson   bool // what is out is a stream, to which an error line can be added
}

func (x *exchange) rpc(m *method) {
	x.write, x.path = m.write, m.path
	if !x.allow(http.MethodPost) {
		return
	}
	if m.unary != nil {
		x.unary(m)
	} else {
		x.stream(m.stream, m.srv, m.path, m.desc, nil)
	}
}

// reads reports whether an HTTP method changes nothing.
func reads(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// allow answers 405 unless the request's method is one of methods. HEAD is allowed
// where GET is.
func (x *exchange) allow(methods ...string) bool {
	if i := slices.Index(methods, http.MethodGet); i >= 0 {
		methods = slices.Insert(slices.Clone(methods), i+1, http.MethodHead)
	}
	for _, m := range methods {
		if x.r.Method == m {
			return true
		}
	}
	list := strings.Join(methods, ", ")
	x.w.Header().Set("Allow", list)
	x.fail(apierrors.New(apierrors.BadMethod, "%s is not allowed here; use %s", clip(x.r.Method), list))
	return false
}

func (x *exchange) notFound() {
	x.write = !reads(x.r.Method)
	x.fail(apierrors.New(apierrors.PathNotFound, "nothing is served under %s; see /openapi.json for what is", clip(x.r.URL.Path)))
}

// recover ends a request whose handler broke down, and only that request.
func (x *exchange) recover() {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v) // how net/http is told to cut the connection
	}
	x.h.cfg.Logger.LogAttrs(context.WithoutCancel(x.r.Context()), slog.LevelError, "request handler panicked",
		slog.String("request_id", x.id), slog.String("path", x.r.URL.Path), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	x.fail(apierrors.New(apierrors.Panicked, "the request's handler broke down; report it with the request id"))
}
