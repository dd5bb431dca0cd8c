package gateway

import (
	"context"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// readMethods are the reads of data, of services that serve data.
func readMethods(t *testing.T) []protoreflect.MethodDescriptor {
	t.Helper()
	var out []protoreflect.MethodDescriptor
	for _, desc := range []grpc.ServiceDesc{headwaterv1.KeyValueService_ServiceDesc, headwaterv1.CounterService_ServiceDesc} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
		if err != nil {
			t.Fatal(err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			if m := methods.Get(i); !writes("/" + string(m.Parent().FullName()) + "/" + string(m.Name())) {
				out = append(out, m)
			}
		}
	}
	if len(out) < 8 {
		t.Fatalf("only %d reads found", len(out))
	}
	return out
}

// has reports whether a message, or one in it, has a field of a type.
func has(m protoreflect.MessageDescriptor, field protoreflect.Name, typ protoreflect.FullName) bool {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		switch {
		case f.Name() == field && (f.Message() != nil && f.Message().FullName() == typ || f.Enum() != nil && f.Enum().FullName() == typ):
			return true
		case f.Message() != nil && f.Message() != m && !f.IsMap() && !f.IsList() && has(f.Message(), field, typ):
			return true
		}
	}
	return false
}

// TestEveryReadSaysHowFreshItMustBeAndIs: each takes `after`, and consistency or
// accuracy, and answers as_of.
func TestEveryReadSaysHowFreshItMustBeAndIs(t *testing.T) {
	t.Parallel()
	for _, m := range readMethods(t) {
		in, want := m.Input(), "consistency"
		if f := in.Fields().ByName("after"); f == nil || !f.IsList() || f.Kind() != protoreflect.StringKind {
			t.Errorf("%s takes no after", m.FullName())
		}
		typ := protoreflect.FullName("headwater.v1.Consistency")
		if m.Parent().Name() == "CounterService" {
			want, typ = "accuracy", "headwater.v1.Count.Accuracy"
		}
		if !has(in, protoreflect.Name(want), typ) {
			t.Errorf("%s takes no %s", m.FullName(), want)
		}
		if !has(m.Output(), "as_of", "headwater.v1.AsOf") {
			t.Errorf("%s answers no as_of", m.FullName())
		}
	}
}

// invoke calls a method of a service in process. The answer of a stream is its
// first message.
func (r *room) invoke(ctx context.Context, m protoreflect.MethodDescriptor, request string) (proto.Message, error) {
	in := dynamicpb.NewMessage(m.Input())
	if err := protojson.Unmarshal([]byte(request), in); err != nil {
		r.t.Fatalf("%s: %v", m.FullName(), err)
	}
	raw, err := proto.Marshal(in)
	if err != nil {
		r.t.Fatal(err)
	}
	decode := func(v any) error { return proto.Unmarshal(raw, v.(proto.Message)) }
	var desc *grpc.ServiceDesc
	var srv any
	switch m.Parent().Name() {
	case "KeyValueService":
		desc, srv = &headwaterv1.KeyValueService_ServiceDesc, r.kv
	case "CounterService":
		desc, srv = &headwaterv1.CounterService_ServiceDesc, r.counter
	case "NamespaceService":
		desc, srv = &headwaterv1.NamespaceService_ServiceDesc, r.namespaces
	default:
		desc, srv = &headwaterv1.LogService_ServiceDesc, r.log
	}
	for i := range desc.Methods {
		if d := &desc.Methods[i]; d.MethodName == string(m.Name()) {
			res, err := d.Handler(srv, ctx, decode, nil)
			if err != nil {
				return nil, err
			}
			return res.(proto.Message), nil
		}
	}
	for i := range desc.Streams {
		if d := &desc.Streams[i]; d.StreamName == string(m.Name()) {
			s := &oneMessage{ctx: ctx, decode: decode, client: d.ClientStreams}
			err := d.Handler(srv, s)
			return s.first, err
		}
	}
	r.t.Fatalf("%s is not served", m.FullName())
	return nil, nil
}

// oneMessage is a stream of which the first message is kept.
type oneMessage struct {
	grpc.ServerStream
	ctx    context.Context
	decode func(any) error
	client bool // streams requests: of which there is one
	got    bool
	first  proto.Message
}

func (s *oneMessage) Context() context.Context { return s.ctx }

func (s *oneMessage) SendHeader(metadata.MD) error { return nil }

func (s *oneMessage) RecvMsg(v any) error {
	if s.client && s.got {
		return io.EOF
	}
	s.got = true
	return s.decode(v)
}

func (s *oneMessage) SendMsg(v any) error {
	if s.first == nil {
		s.first = v.(proto.Message)
	}
	return nil
}

// asOfIn finds the as_of of an answer.
func asOfIn(m protoreflect.Message) *headwaterv1.AsOf {
	var found *headwaterv1.AsOf
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.Message() == nil || f.IsList() || f.IsMap() {
			return true
		}
		if a, ok := v.Message().Interface().(*headwaterv1.AsOf); ok {
			found = a
		} else if a := asOfIn(v.Message()); a != nil {
			found = a
		}
		return found == nil
	})
	return found
}

// TestEveryReadWaitsForWhatItIsAskedFor has a partition stand still, and asks each
// read for what is in the log and not applied.
func TestEveryReadWaitsForWhatItIsAskedFor(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("plays", "abstraction: kv\nlog: { partitions: 1 }\n")
	r.open("other", "abstraction: kv\n")
	r.open("counts", "abstraction: counter\nlog: { partitions: 1 }\ncounter: { windows: [1m] }\n")
	add := func() string {
		res, err := r.counter.AddCount(t.Context(), &headwaterv1.AddCountRequest{Namespace: "counts", Counter: "c", Delta: 1})
		if err != nil {
			t.Fatal(err)
		}
		return res.GetResult().GetPosition()
	}
	requests := map[protoreflect.Name]string{
		"GetItems":       `"id": "id"`,
		"GetItem":        `"id": "id", "key": "aw=="`,
		"ScanItems":      ``,
		"GetCount":       `"counter": "c"`,
		"GetCounts":      `"counters": ["c"]`,
		"ListCounts":     ``,
		"GetCountSeries": `"counter": "c", "interval": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"}, "granularity": "60s"`,
		"VerifyCount":    `"counter": "c"`,
	}
	request := func(m protoreflect.MethodDescriptor, more string) string {
		body, ok := requests[m.Name()]
		if !ok {
			t.Fatalf("no request for %s; add one", m.FullName())
		}
		namespace := "plays"
		if m.Parent().Name() == "CounterService" {
			namespace = "counts"
		}
		if body != "" {
			body = ", " + body
		}
		return `{"namespace": "` + namespace + `"` + body + more + `}`
	}
	first := map[protoreflect.Name]string{"KeyValueService": r.put("plays", "id", "k", "v"), "CounterService": add()}
	elsewhere := r.put("other", "id", "k", "v")
	methods := readMethods(t)
	covers := func(what string, m protoreflect.MethodDescriptor, after string, asOf *headwaterv1.AsOf) {
		t.Helper()
		want, err := wal.ParsePosition(after)
		if err != nil {
			t.Fatal(err)
		}
		got, err := wal.ParsePosition(asOf.GetPosition())
		if err != nil {
			t.Errorf("%s, %s: as_of %v: %v", m.Name(), what, asOf, err)
			return
		}
		for p, o := range want.Offsets {
			if got.Offsets[p] < o {
				t.Errorf("%s, %s: as of offset %d of partition %d, which is before %d", m.Name(), what, got.Offsets[p], p, o)
			}
		}
	}
	for _, m := range methods {
		// Positions of another namespace are passed over.
		after := first[m.Parent().Name()]
		res, err := r.invoke(t.Context(), m, request(m, `, "after": ["`+after+`", "`+elsewhere+`"]`))
		if err != nil {
			t.Errorf("%s: %v", m.Name(), err)
			continue
		}
		covers("all applied", m, after, asOfIn(res.ProtoReflect()))
		for what, list := range map[string]string{
			"malformed": `"x"`, "empty": `""`, "too many": `"x"` + string(slices.Repeat([]byte(`,"x"`), MaxAfter)),
			"cut": `"` + after[:len(after)-1] + `"`,
		} {
			if _, err := r.invoke(t.Context(), m, request(m, `, "after": [`+list+`]`)); reasonOf(err) != apierrors.BadPosition {
				t.Errorf("%s, %s positions: %v", m.Name(), what, err)
			}
		}
	}
	for _, run := range r.runners {
		run.gate.Lock()
	}
	pending := map[protoreflect.Name]string{"KeyValueService": r.put("plays", "id", "k", "w"), "CounterService": add()}
	for _, m := range methods {
		strong := `, "consistency": "LATEST"`
		if m.Parent().Name() == "CounterService" {
			strong = `, "accuracy": "ACCURATE"`
		}
		after := pending[m.Parent().Name()]
		for what, more := range map[string]string{"after": `, "after": ["` + after + `"]`, "strong": strong} {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := r.invoke(ctx, m, request(m, more))
			e := apierrors.From(err)
			if err == nil || e.Reason != apierrors.NotCaughtUp || e.Metadata["wanted"] == "" || e.Metadata["applied"] == "" {
				t.Errorf("%s, %s, what was asked for is not applied: %v", m.Name(), what, err)
			}
		}
	}
	for _, run := range r.runners {
		run.gate.Unlock()
	}
	for _, m := range methods {
		after := pending[m.Parent().Name()]
		res, err := r.invoke(t.Context(), m, request(m, `, "after": ["`+after+`"]`))
		if err != nil {
			t.Errorf("%s: %v", m.Name(), err)
			continue
		}
		covers("applied again", m, after, asOfIn(res.ProtoReflect()))
	}
}

// TestTheNamespaceSaysHowFreshAReadIsThatDoesNot: its kv.consistency holds for reads
// that name none, and for no others.
func TestTheNamespaceSaysHowFreshAReadIsThatDoesNot(t *testing.T) {
	t.Parallel()
	requests := map[protoreflect.Name]string{"GetItems": `, "id": "id"`, "GetItem": `, "id": "id", "key": "aw=="`, "ScanItems": ``}
	for _, setting := range []string{"", "read_your_writes", "latest", "eventual"} {
		r := newRoom(t)
		doc := "abstraction: kv\nlog: { partitions: 1 }\n"
		if setting != "" {
			doc += "kv: { consistency: " + setting + " }\n"
		}
		ns := r.open("plays", doc)
		r.put("plays", "id", "k", "v")
		// reads tells which reads have to wait, whatever they ask for.
		reads := func(what string, waits map[string]bool) {
			t.Helper()
			for _, m := range readMethods(t) {
				if m.Parent().Name() != "KeyValueService" {
					continue
				}
				for consistency, wait := range waits {
					more := requests[m.Name()]
					if consistency != "" {
						more += `, "consistency": "` + consistency + `"`
					}
					ctx, cancel := context.WithCancel(t.Context())
					if wait {
						cancel() // what it waits for does not come
					}
					_, err := r.invoke(ctx, m, `{"namespace": "plays"`+more+`}`)
					cancel()
					if waited := reasonOf(err) == apierrors.NotCaughtUp; waited != wait || err != nil && !waited {
						t.Errorf("kv.consistency %q, %s, %s with %q: %v, should wait: %v", setting, what, m.Name(), consistency, err, wait)
					}
				}
			}
		}
		if err := ns.Stream.Barrier(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		r.runners["plays"].gate.Lock()
		data := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindBarrier})
		if res := ns.Stream.Log().Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: data}})[0]; res.Err != nil {
			t.Fatal(res.Err)
		}
		reads("another process has written", map[string]bool{
			"": setting == "latest", "READ_YOUR_WRITES": false, "LATEST": true, "EVENTUAL": false,
		})
		r.put("plays", "id", "k", "w")
		reads("this process has written", map[string]bool{
			"": setting != "eventual", "READ_YOUR_WRITES": true, "LATEST": true, "EVENTUAL": false,
		})
		r.runners["plays"].gate.Unlock()
	}
}
