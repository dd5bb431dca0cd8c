package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

func keysOf(items []client.Item) string {
	var b strings.Builder
	for _, it := range items {
		b.WriteString(it.Key)
	}
	return b.String()
}

func TestReadsSelectWhatTheyAreAskedFor(t *testing.T) {
	t.Parallel()
	kv := clienttest.New(t).KV("demo-kv")
	ctx := t.Context()
	var items []client.PutItem
	for _, k := range "abcdef" {
		items = append(items, client.PutItem{Key: string(k), Value: bytes.Repeat([]byte{byte(k)}, 600)})
	}
	if _, err := kv.PutItems(ctx, "id", items, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		o    client.ReadOptions
		want string
	}{
		{client.ReadOptions{}, "abcdef"},
		{client.ReadOptions{PageBytes: 1024}, "abcdef"}, // several pages
		{client.ReadOptions{PageBytes: 1024, Limit: 4}, "abcd"},
		{client.ReadOptions{Descending: true, PageBytes: 1024, Limit: 3}, "fed"},
		{client.ReadOptions{Ascending: true, PageBytes: 1024, Limit: 3}, "abc"},
		{client.ReadOptions{Ascending: true, Range: &client.Range{Start: "b"}, Limit: 2}, "bc"},
		{client.ReadOptions{OmitValuesAbove: new(600)}, "abcdef"},
		{client.ReadOptions{OmitValuesAbove: new(599)}, "abcdef"},
		{client.ReadOptions{Range: &client.Range{Start: "b", End: "e"}}, "bcd"},
		{client.ReadOptions{Range: &client.Range{Start: "b", End: "e", StartExclusive: true, EndInclusive: true}}, "cde"},
		{client.ReadOptions{Range: &client.Range{Start: "b", End: "e"}, Descending: true}, "dcb"},
		{client.ReadOptions{Range: &client.Range{End: "c"}}, "ab"},
		{client.ReadOptions{Range: &client.Range{EndInclusive: true}}, ""},
		{client.ReadOptions{Keys: []string{"e", "x", "a"}}, "ea"},
		{client.ReadOptions{OmitValues: true, Consistency: client.Latest}, "abcdef"},
		{client.ReadOptions{Consistency: client.Eventual, Keys: []string{"x"}}, ""},
	} {
		got, err := kv.GetAll(ctx, "id", tc.o)
		if err != nil || keysOf(got) != tc.want {
			t.Errorf("%+v: %q, %v; want %q", tc.o, keysOf(got), err, tc.want)
		}
		for _, it := range got {
			omitted := tc.o.Omits(600)
			if want := 600; omitted && it.Value != nil || !omitted && len(it.Value) != want || it.Size != int64(want) {
				t.Errorf("%+v: item %s has %d bytes, size %d", tc.o, it.Key, len(it.Value), it.Size)
			}
		}
	}
	for _, o := range []client.ReadOptions{{Keys: []string{"a"}, Descending: true}, {Ascending: true, Descending: true}, {OmitValuesAbove: new(-1)}, {PageBytes: 10}, {Consistency: 9}, {Limit: -1}, {After: []string{"x"}}} {
		if _, err := kv.GetAll(ctx, "id", o); !errors.Is(err, client.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestDeletes(t *testing.T) {
	t.Parallel()
	kv := clienttest.New(t).KV("demo-kv")
	ctx := t.Context()
	var items []client.PutItem
	for _, k := range "abcdef" {
		items = append(items, client.PutItem{Key: string(k)})
	}
	res, err := kv.PutItems(ctx, "id", items, client.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error, want string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := kv.GetAll(ctx, "id", client.ReadOptions{}); err != nil || keysOf(got) != want {
			t.Fatalf("left %q, %v; want %q", keysOf(got), err, want)
		}
	}
	_, err = kv.Delete(ctx, "id", "a", "nothing")
	check(err, "bcdef")
	_, err = kv.DeleteRange(ctx, "id", client.Range{Start: "b", End: "d"})
	check(err, "def")
	_, err = kv.DeleteItems(ctx, "id", client.Which{Keys: []string{"d"}}, client.WriteOptions{IfVersion: res.Versions[3]})
	check(err, "ef")
	newer, err := kv.Put(ctx, "id", "e", nil)
	check(err, "ef")
	_, err = kv.DeleteItems(ctx, "id", client.Which{Keys: []string{"e"}}, client.WriteOptions{IfVersion: res.Versions[4]})
	if e, ok := errors.AsType[*client.Error](err); !ok || !errors.Is(err, client.ErrConditionFailed) || e.CurrentVersion() != newer.Versions[0] {
		t.Errorf("%v", err)
	}
	_, err = kv.DeleteRecord(ctx, "id")
	check(err, "")
	if _, err = kv.DeleteItems(ctx, "id", client.Which{}, client.WriteOptions{}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("nothing selected: %v", err)
	}
}

func TestValuesOfEverySizeAndCompressionComeBack(t *testing.T) {
	t.Parallel()
	s, plain := clienttest.NewServer(t, clienttest.Config{})
	ctx := t.Context()
	random := make([]byte, 9<<20+17) // more chunks than go over one stream
	src := rand.NewChaCha8([32]byte{})
	if _, err := src.Read(random); err != nil {
		t.Fatal(err)
	}
	for _, compression := range []string{"", client.Zstd, client.S2} {
		c, err := client.Dial(s.GRPCAddr(), client.Config{Compression: compression})
		if err != nil {
			t.Fatal(err)
		}
		kv := c.KV("demo-kv")
		largest := len(random)
		if testing.Short() && compression != "" {
			largest = 2<<20 + 17
		}
		for _, size := range []int{0, 1, 1023, 5000, 1 << 20, 1<<20 + 1, largest} {
			for name, value := range map[string][]byte{"random": random[:size], "text": bytes.Repeat([]byte("headwater "), size/10+1)[:size]} {
				key := fmt.Sprintf("%s-%s-%d", compression, name, size)
				res, err := kv.PutItems(ctx, "id", []client.PutItem{{Key: key, Value: value}}, client.WriteOptions{})
				if err != nil {
					t.Fatalf("%s: %v", key, err)
				}
				for _, reader := range []*client.Client{c, plain} {
					it, err := reader.KV("demo-kv").GetWith(ctx, "id", key, client.ReadOptions{After: []string{res.Position}})
					if err != nil || sha256.Sum256(it.Value) != sha256.Sum256(value) || it.Version != res.Versions[0] {
						t.Errorf("%s: %d bytes, version %s (written %s), %v", key, len(it.Value), it.Version, res.Versions, err)
					}
					if want := compression != "" && name == "text" && size > 1024; (it.Compression != "") != want || want && it.Size >= int64(size) {
						t.Errorf("%s: compression %q, %d bytes stored", key, it.Compression, it.Size)
					}
				}
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	n := 0
	for it, err := range plain.KV("demo-kv").Items(ctx, "id", client.ReadOptions{Consistency: client.Latest}) {
		if err != nil {
			t.Fatal(err)
		}
		if want := it.Key[strings.LastIndexByte(it.Key, '-')+1:]; fmt.Sprint(len(it.Value)) != want {
			t.Errorf("%s has %d bytes", it.Key, len(it.Value))
		}
		n++
	}
	if n != 42 {
		t.Errorf("%d items", n)
	}
	_, err := plain.KV("demo-kv").Put(ctx, "id", "k", make([]byte, client.MaxValueBytes+1))
	if !errors.Is(err, client.ErrInvalid) {
		t.Errorf("above the limit: %v", err)
	}
}

func TestALargePutWithABusinessKeyHappensOnce(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	kv := c.KV("demo-kv")
	value := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	put := func(v []byte) (client.WriteResult, error) {
		return kv.PutItems(t.Context(), "id", []client.PutItem{{Key: "k", Value: v}}, client.WriteOptions{Token: client.Token{Key: "upload-1"}})
	}
	first, err := put(value)
	if err != nil {
		t.Fatal(err)
	}
	second, err := put(value)
	if err != nil || second.Duplicate != client.Repeated || !slices.Equal(first.Versions, second.Versions) {
		t.Errorf("second: %+v, %v; first: %+v", second, err, first)
	}
	if _, err := put(value[1:]); !errors.Is(err, client.ErrConflict) {
		t.Errorf("other content: %v", err)
	}
	_, err = kv.PutItems(t.Context(), "id", []client.PutItem{{Key: "k", Value: value}}, client.WriteOptions{IfAbsent: true})
	if !errors.Is(err, client.ErrConditionFailed) {
		t.Errorf("if absent: %v", err)
	}
}

// lossy loses every nth answer of a method, after the server has done its work.
func lossy(n int64, method string) (grpc.DialOption, *atomic.Int64) {
	var calls, lost atomic.Int64
	return grpc.WithUnaryInterceptor(func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		err := invoke(ctx, m, req, reply, cc, opts...)
		if err == nil && strings.HasSuffix(m, method) && calls.Add(1)%n == 0 {
			lost.Add(1)
			return status.Error(codes.Unavailable, "the answer was lost")
		}
		return err
	}), &lost
}

// Every put of many goroutines has one effect, though a third of the answers is
// lost: a put that had its effect twice would show as a failed condition.
func TestConcurrentPutsWithLostAnswersHaveOneEffect(t *testing.T) {
	t.Parallel()
	option, lost := lossy(3, "BatchPutItems")
	_, c := clienttest.NewServer(t, clienttest.Config{Client: client.Config{DialOptions: []grpc.DialOption{option}, RetryInitial: time.Millisecond, RetryMax: 5 * time.Millisecond}})
	kv := c.KV("demo-kv")
	var wg sync.WaitGroup
	const callers, each = 32, 20
	for g := range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			id, version := fmt.Sprintf("id-%d", g), ""
			for i := range each {
				o := client.WriteOptions{IfVersion: version, IfAbsent: version == ""}
				if i%2 == 1 {
					o = client.WriteOptions{}
				}
				res, err := kv.PutItems(t.Context(), id, []client.PutItem{{Key: "k", Value: fmt.Append(nil, i)}}, o)
				if err != nil {
					t.Errorf("%s put %d: %v", id, i, err)
					return
				}
				version = res.Versions[0]
				it, err := kv.Get(t.Context(), id, "k")
				if err != nil || it.Version != version || string(it.Value) != fmt.Sprint(i) {
					t.Errorf("%s read %q version %s after putting %d as %s: %v", id, it.Value, it.Version, i, version, err)
					return
				}
			}
		}()
	}
	wg.Wait()
	if lost.Load() == 0 {
		t.Error("no answer was lost")
	}
	n := 0
	for m, err := range c.Log("demo-kv").Tail(t.Context(), client.TailOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Kind != "barrier" {
			n++
		}
	}
	if n < callers*each/1000 {
		t.Errorf("%d records", n)
	}
}

// TestAScanAndTheTailBehindItAreEverything: what is written while a namespace is
// walked is seen by the walk, or by a tail of the log from where the walk is as
// of.
func TestAScanAndTheTailBehindItAreEverything(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	kv := c.KV("demo-kv")
	put := func(id, value string) {
		t.Helper()
		if _, err := kv.Put(t.Context(), id, "k", []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		put(fmt.Sprint("r", i), "before")
	}
	var asOf client.AsOf
	seen := map[string]string{}
	for rec, err := range kv.Scan(t.Context(), client.ScanOptions{PageBytes: 1024, AsOf: &asOf}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[rec.ID] = string(rec.Items[0].Value)
		put("r0", rec.ID)
		put(fmt.Sprint("new", len(seen)), "new")
		if len(seen) > 200 {
			t.Fatal("the walk follows what is written behind it")
		}
	}
	if asOf.Time.IsZero() {
		t.Errorf("as of %+v", asOf)
	}
	for m, err := range c.Log("demo-kv").Tail(t.Context(), client.TailOptions{Position: asOf.Position}) {
		if err != nil {
			t.Fatal(err)
		}
		it, err := kv.Get(t.Context(), m.Key, "k")
		if err != nil {
			t.Fatal(err)
		}
		seen[m.Key] = string(it.Value)
	}
	n := 0
	for rec, err := range kv.Scan(t.Context(), client.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; seen[rec.ID] != string(rec.Items[0].Value) {
			t.Errorf("%s is %q, seen as %q", rec.ID, rec.Items[0].Value, seen[rec.ID])
		}
	}
	if n != len(seen) {
		t.Errorf("%d records, %d seen", n, len(seen))
	}
}

func TestScanSeesEveryItemOnceOverItsShards(t *testing.T) {
	t.Parallel()
	kv := clienttest.New(t).KV("demo-kv")
	want := map[string]bool{}
	for i := range 50 {
		id := fmt.Sprintf("id-%d", i)
		var items []client.PutItem
		for j := range 10 {
			key := fmt.Sprint(j)
			items = append(items, client.PutItem{Key: key, Value: make([]byte, 100)})
			want[id+"/"+key] = true
		}
		if _, err := kv.PutItems(t.Context(), id, items, client.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []int{0, 1, 3, 4, 9} {
		got, continued := map[string]int{}, 0
		for shard := range max(of, 1) {
			for rec, err := range kv.Scan(t.Context(), client.ScanOptions{Shard: shard, Of: of, PageBytes: 1024}) {
				if err != nil {
					t.Fatal(err)
				}
				if rec.Continued {
					continued++
				}
				for _, it := range rec.Items {
					got[rec.ID+"/"+it.Key]++
				}
			}
		}
		if len(got) != len(want) || continued == 0 {
			t.Errorf("of %d: %d of %d items, %d records in pieces", of, len(got), len(want), continued)
		}
		for k, n := range got {
			if n != 1 || !want[k] {
				t.Errorf("of %d: %s came %d times", of, k, n)
			}
		}
	}
}

func TestExpiredItemsAreGone(t *testing.T) {
	t.Parallel()
	kv := clienttest.New(t).KV("demo-kv")
	if _, err := kv.PutItems(t.Context(), "id", []client.PutItem{{Key: "k", TTL: time.Millisecond}, {Key: "l", TTL: time.Hour}}, client.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	it, err := kv.Get(t.Context(), "id", "l")
	if err != nil || time.Until(it.ExpiresAt) < 50*time.Minute {
		t.Errorf("expires %v, %v", it.ExpiresAt, err)
	}
	for {
		_, err := kv.Get(t.Context(), "id", "k")
		if errors.Is(err, client.ErrNotFound) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogWritesOnceAndTailFollows(t *testing.T) {
	t.Parallel()
	option, lost := lossy(2, "WriteToLogBatch")
	_, c := clienttest.NewServer(t, clienttest.Config{Client: client.Config{DialOptions: []grpc.DialOption{option}, RetryInitial: time.Millisecond}})
	log := c.Log("demo-log")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const n = 40
	writes := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := log.Write(ctx, fmt.Sprintf("key-%d", i%5), fmt.Append(nil, i)); err != nil {
				writes <- err
				return
			}
		}
		writes <- nil
	}()
	seen := map[string]string{}
	for m, err := range log.Tail(ctx, client.TailOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if prev, ok := seen[string(m.Payload)]; ok {
			t.Errorf("message %s came twice: %s, %s", m.Payload, prev, m.Token)
		}
		seen[string(m.Payload)] = m.Token.String()
		if len(seen) == n {
			break
		}
	}
	if err := <-writes; err != nil {
		t.Fatal(err)
	}
	if lost.Load() == 0 {
		t.Error("no answer was lost")
	}
	last := -1
	for m, err := range log.Tail(ctx, client.TailOptions{Key: new("key-3")}) {
		if err != nil {
			t.Fatal(err)
		}
		var i int
		if _, err := fmt.Sscan(string(m.Payload), &i); err != nil || i%5 != 3 || i <= last {
			t.Errorf("message %s of %s after %d: %v", m.Payload, m.Key, last, err)
		}
		last = i
	}
	if last != 38 {
		t.Errorf("the last of key-3 is %d", last)
	}
	cancel()
	for _, err := range log.Tail(ctx, client.TailOptions{Follow: true}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: %v", err)
		}
	}
}

// TestMessagesOfManyGoroutinesShareRequests, and one that is refused refuses no other.
func TestMessagesOfManyGoroutinesShareRequests(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	option := grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if strings.Contains(method, "WriteToLog") {
			requests.Add(1)
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	})
	_, c := clienttest.NewServer(t, clienttest.Config{Client: client.Config{DialOptions: []grpc.DialOption{option}}})
	log := c.Log("demo-log")
	if _, err := log.WriteToken(t.Context(), "key-1", []byte("first"), client.Token{Key: "once"}); err != nil {
		t.Fatal(err)
	}
	const writers, each = 64, 20
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			for i := range each {
				m := client.NewMessage{Key: fmt.Sprint("key-", w), Payload: fmt.Append(nil, i)}
				reason := ""
				switch {
				case w == 0 && i%5 == 0:
					m.Headers, reason = map[string]string{"a b": "c"}, "HW-1050"
				case w == 1 && i%5 == 0: // another one has it
					m.Token, reason = client.Token{Key: "once"}, "HW-1201"
				}
				r, err := log.WriteMessage(t.Context(), m)
				e, _ := errors.AsType[*client.Error](err)
				switch {
				case reason == "" && (err != nil || r.MessageID == "" || r.Position == ""):
					t.Errorf("message %d of %d: %+v, %v", i, w, r, err)
				case reason != "" && (e == nil || e.Reason != reason || e.Outcome != client.NotApplied || strings.Contains(e.Message, "message 0")):
					t.Errorf("message %d of %d: %v, want %s", i, w, err, reason)
				}
			}
		})
	}
	work.Wait()
	last, n := make(map[string]int), 0
	for m, err := range log.Tail(t.Context(), client.TailOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Payload) == "first" {
			continue
		}
		var i int
		if _, err := fmt.Sscan(string(m.Payload), &i); err != nil || i < last[m.Key] {
			t.Errorf("message %s of %s comes behind %d", m.Payload, m.Key, last[m.Key])
		}
		last[m.Key] = i
		n++
	}
	if want := writers*each - 8; n != want {
		t.Errorf("the log has %d messages, want %d", n, want)
	}
	if got := requests.Load(); got > writers*each/2 {
		t.Errorf("%d messages took %d requests", writers*each, got)
	}
}

// cutOnce breaks the first stream that is read, once it has begun.
type cutOnce struct {
	grpc.ClientStream
	cut func() bool
}

func (s cutOnce) RecvMsg(m any) error {
	if s.cut() {
		return status.Error(codes.Unavailable, "the connection is lost")
	}
	return s.ClientStream.RecvMsg(m)
}

// A tail from the latest record that loses its connection before it has seen one
// goes on from where it began.
func TestATailOfTheLatestMissesNothing(t *testing.T) {
	t.Parallel()
	s, writer := clienttest.NewServer(t, clienttest.Config{})
	words := writer.Log("demo-log")
	var once sync.Once
	reader, err := client.Dial(s.GRPCAddr(), client.Config{DialOptions: []grpc.DialOption{grpc.WithStreamInterceptor(
		func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := next(ctx, desc, cc, method, opts...)
			return cutOnce{stream, func() (cut bool) {
				once.Do(func() {
					cut = true
					if _, err := words.Write(t.Context(), "k", []byte("unseen")); err != nil {
						t.Error(err)
					}
				})
				return cut
			}}, err
		})}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := words.Write(t.Context(), "k", []byte("old")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for m, err := range reader.Log("demo-log").Tail(ctx, client.TailOptions{Latest: true, Follow: true}) {
		if err != nil || string(m.Payload) != "unseen" {
			t.Errorf("%q, %v", m.Payload, err)
		}
		break
	}
}

func TestNamespacesAreAppliedWatchedAndDeleted(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ns := c.Namespaces()
	doc := "namespace: plays\nabstraction: kv\n"
	dry, err := ns.Apply(ctx, doc, client.ApplyOptions{DryRun: true})
	if err != nil || dry.Version != 0 || len(dry.Changes) == 0 {
		t.Fatalf("%+v, %v", dry, err)
	}
	if _, err := ns.Get(ctx, "plays"); !errors.Is(err, client.ErrNotFound) {
		t.Fatalf("after a dry run: %v", err)
	}
	made, err := ns.Apply(ctx, doc, client.ApplyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KV("plays").Put(ctx, "id", "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	if _, err := ns.Apply(ctx, doc+"description: x\n", client.ApplyOptions{BaseVersion: made.Version + 1000}); !errors.Is(err, client.ErrConditionFailed) {
		t.Errorf("wrong base version: %v", err)
	}
	if _, err := ns.Apply(ctx, "namespace: plays\nabstractoin: kv\n", client.ApplyOptions{}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("mistyped: %v", err)
	}
	if _, err := ns.Delete(ctx, "plays", "play"); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("unconfirmed: %v", err)
	}
	seen := map[string]bool{}
	for e, err := range ns.Watch(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Name == "plays" && e.Deleted {
			break
		}
		if e.Name == "plays" && !seen["plays"] { // a watch that begins later does not see what is gone
			go func() {
				if _, err := ns.Delete(ctx, "plays", "plays"); err != nil {
					t.Error(err)
					cancel()
				}
			}()
		}
		seen[e.Name] = true
	}
	if !seen["demo-kv"] {
		t.Errorf("saw %v", seen)
	}
	names := []string{}
	for n, err := range ns.List(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, n.Name)
	}
	if !slices.Equal(names, []string{"demo-counter", "demo-kv", "demo-log", "demo-timeseries"}) {
		t.Errorf("namespaces %v", names)
	}

	// The session has a position of the namespace's former life.
	if _, err := ns.Apply(ctx, doc, client.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.KV("plays").Get(ctx, "id", "k"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("of a namespace made again: %v", err)
	}
}

func TestStatusAndDeadLetters(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	st, err := c.Admin().Status(t.Context(), "demo-kv")
	if err != nil || st.GetDurability() != "SYNC" || len(st.GetNamespaces()) != 1 || len(st.GetNamespaces()[0].GetPartitions()) != 4 {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := c.Admin().Handshake(t.Context(), "demo-kv"); err != nil {
		t.Error(err)
	}
	for _, err := range c.DeadLetters("demo-kv").List(t.Context(), client.DeadLetterSelection{}) {
		t.Errorf("a dead letter: %v", err)
	}
	d, err := c.DeadLetters("demo-kv").Redrive(t.Context(), client.DeadLetterSelection{Key: new("x")}, client.RedriveOptions{DryRun: true})
	if err != nil || d.Matched != 0 || !d.DryRun {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := c.DeadLetters("demo-kv").Drop(t.Context(), client.DeadLetterSelection{Key: new("x")}, false); err != nil || d.Matched != 0 {
		t.Errorf("%+v, %v", d, err)
	}
	for _, err := range c.DeadLetters("nope").List(t.Context(), client.DeadLetterSelection{}) {
		if !errors.Is(err, client.ErrNotFound) {
			t.Errorf("unknown namespace: %v", err)
		}
	}
}

// A client reads its own writes from a server started again on the same data.
func TestASessionOutlivesTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, c := clienttest.NewServer(t, clienttest.Config{DataDir: dir})
	res, err := c.KV("demo-kv").Put(t.Context(), "id", "k", []byte("v"))
	if err != nil {
		t.Fatal(err)
	}
	s.Close(t)
	_, c = clienttest.NewServer(t, clienttest.Config{DataDir: dir})
	it, err := c.KV("demo-kv").GetWith(t.Context(), "id", "k", client.ReadOptions{After: []string{res.Position}})
	if err != nil || string(it.Value) != "v" || it.Version != res.Versions[0] {
		t.Errorf("%+v, %v", it, err)
	}
}
