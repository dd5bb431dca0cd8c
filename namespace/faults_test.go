package namespace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

// brokenBroker is a real broker whose appends to the registry's topic go wrong
// when the test wants it.
type brokenBroker struct {
	wal.Broker
	append func(next func() wal.Result) wal.Result // nil: as it is
}

func (b *brokenBroker) Create(ctx context.Context, spec wal.TopicSpec) (wal.Log, error) {
	l, err := b.Broker.Create(ctx, spec)
	if err != nil || spec.Name != SystemTopic {
		return l, err
	}
	return &brokenLog{Log: l, b: b}, nil
}

type brokenLog struct {
	wal.Log
	b *brokenBroker
}

func (l *brokenLog) Append(ctx context.Context, d wal.Durability, es []wal.NewEntry) []wal.Result {
	next := func() wal.Result { return l.Log.Append(ctx, d, es)[0] }
	if l.b.append == nil {
		return []wal.Result{next()}
	}
	return []wal.Result{l.b.append(next)}
}

func TestACreationThatDiesBeforeItsRecordIsTakenUp(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := &brokenBroker{Broker: openBroker(t, vfs.NewMem())}
	r := openRegistry(t, b)
	b.append = func(func() wal.Result) wal.Result { return wal.Result{Err: wal.ErrNotAppended} }
	for range 2 {
		if _, err := r.Apply(ctx, kvDoc("a"), ApplyOptions{}); !errors.Is(err, wal.ErrNotAppended) || errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("apply without a log: %v", err)
		}
	}
	orphan, ok := topics(t, b)["headwater.kv.a.1"]
	if _, exists := r.Get("a"); exists || !ok {
		t.Fatalf("namespace %v, topic %v", exists, ok)
	}
	b.append = nil
	if removed, err := r.Reap(ctx); err != nil || len(removed) != 0 {
		t.Fatalf("reap of topics that a record may yet name: %v, %v", removed, err)
	}

	// With another number of partitions the orphan cannot be used.
	mustApply(t, r, kvDoc("a", "log: {partitions: 9}"))
	e, _ := r.Get("a")
	if e.Generation != 2 || topics(t, b)[e.Topic].Partitions != 9 {
		t.Fatalf("entry %+v", e)
	}
	removed, err := r.Reap(ctx)
	slices.Sort(removed)
	if err != nil || fmt.Sprint(removed) != "[headwater.dlq.a.1 headwater.kv.a.1]" {
		t.Fatalf("reap: %v, %v", removed, err)
	}

	// With the same it is.
	b.append = func(func() wal.Result) wal.Result { return wal.Result{Err: wal.ErrNotAppended} }
	if _, err := r.Apply(ctx, kvDoc("b"), ApplyOptions{}); err == nil {
		t.Fatal("apply without a log")
	}
	b.append = nil
	orphan = topics(t, b)["headwater.kv.b.1"]
	mustApply(t, r, kvDoc("b"))
	if e, _ := r.Get("b"); e.Topic != orphan.Name || e.Incarnation != orphan.Incarnation {
		t.Fatalf("entry %+v, orphan %+v", e, orphan)
	}
}

func TestAnUnknownAppendIsDecidedByTheLog(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := &brokenBroker{Broker: openBroker(t, vfs.NewMem())}
	r := openRegistry(t, b)

	b.append = func(next func() wal.Result) wal.Result { next(); return wal.Result{Err: wal.ErrUnknown} }
	res, err := r.Apply(ctx, kvDoc("landed"), ApplyOptions{})
	if e, ok := r.Get("landed"); err != nil || !ok || e.Version != res.Version {
		t.Fatalf("an append that took place: %+v, %v", res, err)
	}

	var late func() wal.Result
	b.append = func(next func() wal.Result) wal.Result { late = next; return wal.Result{Err: wal.ErrUnknown} }
	base := res.Version
	short, cancel := context.WithCancel(ctx)
	doc := kvDoc("landed", "description: late")
	if _, err := r.Apply(short, doc, ApplyOptions{Base: &base}); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, wal.ErrUnknown) {
		t.Fatalf("an append that is not there yet: %v", err)
	}
	cancel()
	// It may be sent again; both copies land, one has an effect.
	b.append = nil
	res, err = r.Apply(ctx, doc, ApplyOptions{Base: &base})
	if err != nil {
		t.Fatal(err)
	}
	if l := late(); !errors.Is(l.Err, wal.ErrNotAppended) {
		t.Fatalf("the context of the first copy is over: %v", l.Err)
	}
	again, err := r.Apply(ctx, doc, ApplyOptions{Base: &base})
	if err != nil || !again.Unchanged || again.Version != res.Version {
		t.Fatalf("the same change with the base it was made from: %+v, %v", again, err)
	}

	b.append = func(next func() wal.Result) wal.Result { next(); next(); return wal.Result{Err: wal.ErrUnknown} }
	res, err = r.Apply(ctx, kvDoc("landed", "description: twice"), ApplyOptions{})
	if e, _ := r.Get("landed"); err != nil || e.Version != res.Version || len(e.accepted) != 3 {
		t.Fatalf("a record that landed twice: %+v, %v", e, err)
	}
}

// appendRaw puts a record into the registry's topic past the registry.
func appendRaw(t testing.TB, b wal.Broker, rec *wal.Record) wal.Offset {
	t.Helper()
	ctx := testContext(t)
	l, err := b.Open(ctx, SystemTopic)
	if err != nil {
		t.Fatal(err)
	}
	res := l.Append(ctx, wal.Sync, []wal.NewEntry{{Data: wal.AppendRecord(nil, rec)}})[0]
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	return res.Offset
}

func TestARecordThatCannotBeReadStopsTheRegistry(t *testing.T) {
	t.Parallel()
	good, err := encodeChange(&change{Op: opOwner, Name: "a", Generation: 1, Owner: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for name, rec := range map[string]*wal.Record{
		"payload of a newer version": {Kind: wal.KindNamespace, Payload: append([]byte{2}, good[1:]...)},
		"unknown member":             {Kind: wal.KindNamespace, Payload: []byte("\x01" + `{"op":"owner","name":"a","generation":1,"owner":"x","colour":1}`)},
		"no payload":                 {Kind: wal.KindNamespace},
		"another kind":               {Kind: wal.KindKV, Payload: good},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			b := openBroker(t, vfs.NewMem())
			r := openRegistry(t, b)
			mustApply(t, r, kvDoc("a"))
			since := r.Version()
			appendRaw(t, b, rec)
			for _, err := range r.Watch(ctx, since) { // ends when the registry has met the record
				if !errors.Is(err, ErrStopped) {
					t.Fatalf("watch: %v", err)
				}
			}
			if err := r.Err(); !errors.Is(err, ErrStopped) || !errors.Is(err, ErrMalformed) {
				t.Errorf("reason: %v", err)
			}
			if _, err := r.Apply(ctx, kvDoc("b"), ApplyOptions{}); !errors.Is(err, ErrStopped) {
				t.Errorf("apply: %v", err)
			}
			if _, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "a"}); !errors.Is(err, ErrStopped) {
				t.Errorf("delete: %v", err)
			}
			if err := r.Claim(ctx, "a", "x"); !errors.Is(err, ErrStopped) {
				t.Errorf("claim: %v", err)
			}
			if e, ok := r.Get("a"); !ok || e.Version != since {
				t.Errorf("what it knew: %+v", e)
			}
			if _, err := Open(ctx, Options{Broker: b}); !errors.Is(err, ErrStopped) {
				t.Errorf("open: %v", err)
			}
		})
	}
}

func TestBarriersStandBetweenRecords(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	r := openRegistry(t, b)
	for i := range 3 {
		appendRaw(t, b, &wal.Record{Kind: wal.KindBarrier})
		mustApply(t, r, kvDoc(fmt.Sprintf("n%d", i)))
	}
	r2 := openRegistry(t, b)
	if len(r2.List()) != 3 || r2.Version() != r.Version() {
		t.Fatalf("%d namespaces at version %d, want 3 at %d", len(r2.List()), r2.Version(), r.Version())
	}
	if e, _ := r2.Get("n2"); e.Version != 6 {
		t.Fatalf("version %d: it is the offset of the record plus one", e.Version)
	}
}

// flakyLog fails every other read with an error that passes.
type flakyBroker struct{ wal.Broker }

type flakyLog struct{ wal.Log }

type flakyReader struct {
	wal.Reader
	calls *int
}

func (b flakyBroker) Create(ctx context.Context, spec wal.TopicSpec) (wal.Log, error) {
	l, err := b.Broker.Create(ctx, spec)
	return flakyLog{l}, err
}

func (l flakyLog) Read(ctx context.Context, p wal.Partition, from wal.Offset) (wal.Reader, error) {
	rd, err := l.Log.Read(ctx, p, from)
	return &flakyReader{Reader: rd, calls: new(int)}, err
}

func (r *flakyReader) Next(ctx context.Context) ([]wal.Entry, error) {
	if *r.calls++; *r.calls > 1 {
		return nil, fmt.Errorf("injected: %w", wal.ErrUnavailable)
	}
	return r.Reader.Next(ctx)
}

func TestErrorsThatPassAreRiddenOut(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	r, err := Open(testContext(t), Options{Broker: flakyBroker{b}, MaxBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	want := map[string]uint64{}
	for i := range 20 {
		name := fmt.Sprintf("n%d", i%5)
		want[name] = mustApply(t, r, kvDoc(name, fmt.Sprintf("description: d%d", i))).Version
	}
	got := map[string]uint64{}
	for _, e := range r.List() {
		got[e.Name] = e.Version
	}
	if !maps.Equal(got, want) || r.Err() != nil {
		t.Fatalf("got %v, want %v; %v", got, want, r.Err())
	}
}

// gapBroker loses the second record that is read.
type gapBroker struct{ wal.Broker }

type gapLog struct{ wal.Log }

type gapReader struct{ wal.Reader }

func (b gapBroker) Create(ctx context.Context, spec wal.TopicSpec) (wal.Log, error) {
	l, err := b.Broker.Create(ctx, spec)
	return gapLog{l}, err
}

func (l gapLog) Read(ctx context.Context, p wal.Partition, from wal.Offset) (wal.Reader, error) {
	rd, err := l.Log.Read(ctx, p, from)
	return gapReader{rd}, err
}

func (r gapReader) Next(ctx context.Context) ([]wal.Entry, error) {
	es, err := r.Reader.Next(ctx)
	return slices.DeleteFunc(es, func(e wal.Entry) bool { return e.Offset == 1 }), err
}

func TestAGapInTheLogStopsTheRegistry(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	r := openRegistry(t, b)
	for i := range 3 {
		mustApply(t, r, kvDoc(fmt.Sprintf("n%d", i)))
	}
	if _, err := Open(testContext(t), Options{Broker: gapBroker{b}}); !errors.Is(err, ErrStopped) || !errors.Is(err, wal.ErrCorrupt) {
		t.Fatalf("open: %v", err)
	}
}

func TestAChangeThatCannotBeAppendedIsNotMade(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	b := &brokenBroker{Broker: openBroker(t, vfs.NewMem())}
	r := openRegistry(t, b)
	v := mustApply(t, r, kvDoc("a")).Version
	b.append = func(func() wal.Result) wal.Result {
		return wal.Result{Err: fmt.Errorf("%w: %w", wal.ErrNotAppended, wal.ErrDiskFull)}
	}
	_, applied := r.Apply(ctx, kvDoc("a", "description: x"), ApplyOptions{})
	_, deleted := r.Delete(ctx, "a", DeleteOptions{Confirm: "a"})
	for what, err := range map[string]error{"apply": applied, "delete": deleted, "claim": r.Claim(ctx, "a", "x")} {
		if !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrDiskFull) || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if e, ok := r.Get("a"); !ok || e.Version != v || e.Owner != "" || len(r.waiters) != 0 {
		t.Errorf("%+v, %d wait", e, len(r.waiters))
	}
}
