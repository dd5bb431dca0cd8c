package gateway

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/namespace"
)

// optional is a scalar of a request that may be absent, and what the difference
// between that and zero is: the reason of a refusal, or what looks finds in the
// answer.
type optional struct {
	field        protoreflect.FullName
	method       string
	absent, zero string // requests
	looks        func(answer map[string]any) string
	ifAbsent     string
	ifZero       string
}

// inRequests finds the fields of all requests for which is holds.
func inRequests(t *testing.T, is func(protoreflect.FieldDescriptor) bool) map[protoreflect.FullName]bool {
	t.Helper()
	found, seen := map[protoreflect.FullName]bool{}, map[protoreflect.FullName]bool{}
	var walk func(m protoreflect.MessageDescriptor)
	walk = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] || !strings.HasPrefix(string(m.FullName()), "headwater.") {
			return
		}
		seen[m.FullName()] = true
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if is(f) {
				found[f.FullName()] = true
			}
			if f.Message() != nil {
				walk(f.Message())
			}
		}
	}
	for _, desc := range []grpc.ServiceDesc{
		headwaterv1.KeyValueService_ServiceDesc, headwaterv1.CounterService_ServiceDesc, headwaterv1.LogService_ServiceDesc,
		headwaterv1.NamespaceService_ServiceDesc, headwaterv1.AdminService_ServiceDesc,
	} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(desc.ServiceName))
		if err != nil {
			t.Fatal(err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			walk(methods.Get(i).Input())
		}
	}
	return found
}

// count says how many elements a field of an answer has.
func count(field string) func(map[string]any) string {
	return func(a map[string]any) string {
		list, _ := a[field].([]any)
		return fmt.Sprint(len(list))
	}
}

func firstKey(a map[string]any) string {
	items, _ := a["items"].([]any)
	return items[0].(map[string]any)["key"].(string)
}

// TestAbsentIsNotZero goes over every scalar that a request may leave out: a zero
// that is given means zero, or is refused, and is never taken for absence.
func TestAbsentIsNotZero(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	reg, err := namespace.Open(t.Context(), namespace.Options{Broker: r.broker})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reg.Close)
	r.namespaces = NewNamespaces(reg, nil)
	r.open("down", "abstraction: kv\nkv: { order: descending }\n")
	r.open("counts", "abstraction: counter\n")
	r.open("words", "abstraction: log\nlog: { partitions: 1 }\n") // so that its messages have one order
	for _, k := range []string{"", "a", "b"} {
		r.put("down", "id", k, "value")
	}
	do := func(method, request string) map[string]any {
		t.Helper()
		m, err := r.call(method, request)
		if err != nil {
			t.Fatalf("%s %s: %v", method, request, err)
		}
		return fields(t, m)
	}
	do("CounterService.AddCount", `{"namespace": "counts", "counter": "big", "delta": "9223372036854775807"}`)
	do("CounterService.AddCount", `{"namespace": "counts", "counter": "big", "delta": 1}`) // a dead letter
	do("CounterService.GetCount", `{"namespace": "counts", "counter": "big", "accuracy": "ACCURATE"}`)
	do("CounterService.AddCount", `{"namespace": "counts", "counter": "stock", "delta": 5}`)
	hold := func() string {
		return do("CounterService.ReserveCount", `{"namespace": "counts", "counter": "stock", "amount": 1, "lease": "60s"}`)["reservationId"].(string)
	}
	upload := do("KeyValueService.BeginUpload", `{"namespace": "down", "id": "up", "key": "", "size": 2}`)["uploadId"].(string)
	do("LogService.WriteToLog", `{"namespace": "words", "key": "k", "payload": "cGFpZA=="}`)
	do("LogService.WriteToLog", `{"namespace": "words", "payload": "cGFpZA=="}`)

	do("LogService.ApplyConsumer", `{"namespace": "words", "consumer": "e", "maxAttempts": 7}`)

	read := func(predicate, selection string) string {
		return fmt.Sprintf(`{"namespace": "down", "id": "id", "predicate": {%s}, "selection": {%s}}`, predicate, selection)
	}
	get, down, value := "KeyValueService.GetItems", `{"namespace": "down"`, func(a map[string]any) string {
		items, _ := a["items"].([]any)
		return fmt.Sprintf("%d of %v bytes", len(items[0].(map[string]any)["value"].(string)), items[0].(map[string]any)["size"])
	}
	list := func(more string) string {
		return `{"namespace": "counts"` + more + `}`
	}
	words := func(more string) string {
		return `{"namespace": "words"` + more + `}`
	}
	add := func(delta int, bounds string) string {
		return fmt.Sprintf(`{"namespace": "counts", "counter": "bound", "delta": %d, "bounds": {%s}}`, delta, bounds)
	}
	settle := func(more string) string {
		return fmt.Sprintf(`{"namespace": "counts", "reservationId": %q%s}`, hold(), more)
	}
	chunk := func(more string) string {
		return fmt.Sprintf(`{"namespace": "down", "uploadId": %q, "index": 0, "data": "AAE="%s}`, upload, more)
	}
	log := func(filter string) string {
		return fmt.Sprintf(`{"namespace": "words", "from": {"earliest": {}}, "filter": {%s}}`, filter)
	}
	key := func(a map[string]any) string { return fmt.Sprintf("first of %q", a["key"]) }
	letters := func(selection string) string { return `{"namespace": "counts", "selection": {` + selection + `}}` }
	redrive := func(more string) string { return `{"namespace": "counts", "dryRun": true` + more + `}` }
	matched := func(a map[string]any) string { return fmt.Sprint(a["matched"]) }
	consumer := func(field string) func(map[string]any) string {
		return func(a map[string]any) string { return fmt.Sprint(a["consumer"].(map[string]any)[field]) }
	}
	violation := func(a map[string]any) string { return a["violation"].(string) }
	table := []optional{
		{"headwater.v1.Predicate.MatchRange.start", get, read(`"matchRange": {"startExclusive": true}`, ""), read(`"matchRange": {"start": "", "startExclusive": true}`, ""), count("items"), apierrors.BadPredicate, "2"},
		{"headwater.v1.Predicate.MatchRange.end", get, read(`"matchRange": {}`, ""), read(`"matchRange": {"end": ""}`, ""), count("items"), "3", "0"},
		{"headwater.v1.Predicate.MatchRange.descending", get, read(`"matchRange": {}`, ""), read(`"matchRange": {"descending": false}`, ""), firstKey, "Yg==", ""},
		{"headwater.v1.Selection.page_size_bytes", get, read("", ""), read("", `"pageSizeBytes": 0`), count("items"), "3", apierrors.BadPageSize},
		{"headwater.v1.Selection.item_limit", get, read("", ""), read("", `"itemLimit": 0`), count("items"), "3", apierrors.BadPageSize},
		{"headwater.v1.Selection.omit_values_above", get, read("", ""), read("", `"omitValuesAbove": 0`), value, "8 of 5 bytes", "0 of 5 bytes"},
		{"headwater.v1.ScanItemsRequest.page_size_bytes", "KeyValueService.ScanItems", down + "}", down + `, "pageSizeBytes": 0}`, count("records"), "1", apierrors.BadPageSize},
		{"headwater.v1.UploadChunkRequest.crc32c", "KeyValueService.UploadChunk", chunk(""), chunk(`, "crc32c": 0`), func(a map[string]any) string { return fmt.Sprint(a["chunksReceived"]) }, "1", apierrors.BadUpload},
		{"headwater.v1.ListCountsRequest.page_size", "CounterService.ListCounts", list(""), list(`, "pageSize": 0`), count("counts"), "2", apierrors.BadPageSize},
		{"headwater.v1.Bounds.floor", "CounterService.AddAndGetCount", add(-1, ""), add(-1, `"floor": 0`), violation, "NONE", "FLOOR"},
		{"headwater.v1.Bounds.ceiling", "CounterService.AddAndGetCount", add(7, ""), add(7, `"ceiling": 0`), violation, "NONE", "CEILING"},
		{"headwater.v1.SettleReservationRequest.amount", "CounterService.SettleReservation", settle(""), settle(`, "amount": 0`), func(a map[string]any) string { return fmt.Sprint(a["count"].(map[string]any)["value"]) }, "4", "4"},
		{"headwater.v1.LogFilter.key", "LogService.ReadLog", log(`"kind": "message"`), log(`"key": ""`), key, `first of "k"`, `first of ""`},
		{"headwater.v1.LogFilter.kind", "LogService.ReadLog", log(`"key": "k"`), log(`"kind": ""`), key, `first of "k"`, apierrors.BadSelection},
		{"headwater.v1.DeadLetterSelection.reason", "LogService.ListDeadLetters", letters(""), letters(`"reason": ""`), count("deadLetters"), "1", "0"},
		{"headwater.v1.DeadLetterSelection.key", "LogService.ListDeadLetters", letters(""), letters(`"key": ""`), count("deadLetters"), "1", "0"},
		{"headwater.v1.DeadLetterSelection.target", "LogService.ListDeadLetters", letters(""), letters(`"target": ""`), count("deadLetters"), "1", "1"}, // those of no delivery
		{"headwater.v1.ListDeadLettersRequest.page_size", "LogService.ListDeadLetters", list(""), list(`, "pageSize": 0`), count("deadLetters"), "1", apierrors.BadPageSize},
		{"headwater.v1.ListDelayedRequest.key", "LogService.ListDelayed", words(""), words(`, "key": ""`), count("messages"), "0", apierrors.BadLogKey},
		{"headwater.v1.ListDelayedRequest.page_size", "LogService.ListDelayed", words(""), words(`, "pageSize": 0`), count("messages"), "0", apierrors.BadPageSize},
		{"headwater.v1.GetMessageRequest.key", "LogService.GetMessage", words(`, "messageId": "0123456789ab-0-0"`), words(`, "messageId": "0123456789ab-0-0", "key": ""`), count(""), apierrors.MessageNotFound, apierrors.BadMessageID},
		{"headwater.v1.CancelDelayedRequest.Selection.key", "LogService.CancelDelayed", words(`, "selection": {}`), words(`, "selection": {"key": ""}`), count(""), apierrors.BadMessageID, apierrors.BadLogKey},
		{"headwater.v1.FetchMessagesRequest.max_messages", "LogService.FetchMessages", words(`, "consumer": "c"`), words(`, "consumer": "c", "maxMessages": 0`), count("messages"), "2", apierrors.BadConsumer},
		{"headwater.v1.ApplyConsumerRequest.max_in_flight", "LogService.ApplyConsumer", words(`, "consumer": "d"`), words(`, "consumer": "d", "maxInFlight": 0`), consumer("maxInFlight"), "1000", apierrors.BadConsumer},
		{"headwater.v1.ApplyConsumerRequest.max_attempts", "LogService.ApplyConsumer", words(`, "consumer": "e"`), words(`, "consumer": "e", "maxAttempts": 0`), consumer("maxAttempts"), "7", "0"},
		{"headwater.v1.RedriveDeadLettersRequest.rate", "LogService.RedriveDeadLetters", redrive(""), redrive(`, "rate": 0`), matched, "0", apierrors.BadSelection},
		{"headwater.v1.RedriveDeadLettersRequest.max", "LogService.RedriveDeadLetters", redrive(""), redrive(`, "max": 0`), matched, "0", apierrors.BadSelection},
		{"headwater.v1.ListNamespacesRequest.page_size", "NamespaceService.ListNamespaces", `{}`, `{"pageSize": 0}`, count("namespaces"), "0", apierrors.BadPageSize},
	}
	left := inRequests(t, func(f protoreflect.FieldDescriptor) bool {
		return f.HasOptionalKeyword() && f.Message() == nil
	})
	for _, o := range table {
		if !left[o.field] {
			t.Errorf("%s is not a scalar that a request may leave out", o.field)
		}
		delete(left, o.field)
		for _, c := range []struct{ what, request, want string }{{"absent", o.absent, o.ifAbsent}, {"zero", o.zero, o.ifZero}} {
			m, err := r.call(o.method, c.request)
			got := ""
			if err != nil {
				got = reasonOf(err)
			} else {
				got = o.looks(fields(t, m))
			}
			if got != c.want {
				t.Errorf("%s %s: %q, %v; want %q", o.field, c.what, got, err, c.want)
			}
		}
	}
	for _, f := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("%s may be left out: say in the table how that differs from zero", f)
	}
}

// TestATimeToLiveThatIsGivenIsAboveZero: in every request that has one.
func TestATimeToLiveThatIsGivenIsAboveZero(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("plays", "abstraction: kv\n")
	r.open("counts", "abstraction: counter\n")
	requests := map[protoreflect.FullName]struct{ method, request string }{
		"headwater.v1.PutItem.ttl":               {"KeyValueService.PutItems", `{"namespace": "plays", "id": "id", "items": [{"key": "", "value": "" %s}]}`},
		"headwater.v1.BeginUploadRequest.ttl":    {"KeyValueService.BeginUpload", `{"namespace": "plays", "id": "id", "key": "", "size": 1 %s}`},
		"headwater.v1.CounterAdd.ttl":            {"CounterService.AddCounts", `{"namespace": "counts", "adds": [{"counter": "c", "delta": 1 %s}]}`},
		"headwater.v1.AddCountRequest.ttl":       {"CounterService.AddCount", `{"namespace": "counts", "counter": "c", "delta": 1 %s}`},
		"headwater.v1.AddAndGetCountRequest.ttl": {"CounterService.AddAndGetCount", `{"namespace": "counts", "counter": "c", "delta": 1 %s}`},
	}
	for f := range inRequests(t, func(f protoreflect.FieldDescriptor) bool { return f.Name() == "ttl" }) {
		c, ok := requests[f]
		if !ok {
			t.Errorf("no request with %s; add one", f)
			continue
		}
		for ttl, want := range map[string]string{
			"": "", `, "ttl": "60s"`: "", `, "ttl": "0.001s"`: "",
			`, "ttl": "0s"`: apierrors.BadTTL, `, "ttl": "-1s"`: apierrors.BadTTL, `, "ttl": "-0.000001s"`: apierrors.BadTTL, `, "ttl": "0.000999s"`: apierrors.BadTTL,
		} {
			if _, err := r.call(c.method, fmt.Sprintf(c.request, ttl)); reasonOf(err) != want {
				t.Errorf("%s%s: %v, want %q", f, ttl, err, want)
			}
		}
	}
}

// call calls a method of a service by name, "LogService.ReadLog".
func (r *room) call(method, request string) (proto.Message, error) {
	r.t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("headwater.v1." + method))
	if err != nil {
		r.t.Fatal(err)
	}
	return r.invoke(r.t.Context(), d.(protoreflect.MethodDescriptor), request)
}

// fields are those of an answer, as JSON has them, zeros too.
func fields(t *testing.T, m proto.Message) map[string]any {
	t.Helper()
	data, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAValueIsLeftOutByWhatItWouldBeAnsweredAs: the limit is on the bytes that are
// stored, and on those that would be answered where a compression is undone.
func TestAValueIsLeftOutByWhatItWouldBeAnsweredAs(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("plays", "abstraction: kv\n")
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := enc.EncodeAll(make([]byte, 1000), nil)
	_, err = r.kv.PutItems(t.Context(), &headwaterv1.PutItemsRequest{
		Namespace: "plays", Id: "id", Items: []*headwaterv1.PutItem{{Value: packed, Compression: "zstd"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		above  int64
		accept []string
		want   int // bytes of the value
		as     string
	}{
		{int64(len(packed)) - 1, nil, 0, "zstd"},
		{int64(len(packed)) - 1, []string{"zstd"}, 0, "zstd"},
		{int64(len(packed)), nil, 0, "zstd"},
		{int64(len(packed)), []string{"zstd"}, len(packed), "zstd"},
		{999, nil, 0, "zstd"},
		{1000, nil, 1000, ""},
	} {
		res, err := r.kv.GetItems(t.Context(), &headwaterv1.GetItemsRequest{
			Namespace: "plays", Id: "id", Selection: &headwaterv1.Selection{OmitValuesAbove: &c.above}, AcceptCompression: c.accept,
		})
		if err != nil {
			t.Fatal(err)
		}
		size := int64(len(packed))
		if c.as == "" {
			size = 1000
		}
		if it := res.GetItems()[0]; len(it.GetValue()) != c.want || it.GetCompression() != c.as || it.GetSize() != size || it.GetChunked() {
			t.Errorf("above %d, accepting %v: %d bytes, %q, size %d; want %d bytes, %q", c.above, c.accept, len(it.GetValue()), it.GetCompression(), it.GetSize(), c.want, c.as)
		}
	}
}
