package kvtest

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

var randomCases = []testCase{
	{"random batches, sweeps and reopens answer as the model does", randomProgram},
}

func randomProgram(t *testing.T, h Harness) {
	rapid.Check(t, func(rt *rapid.T) {
		p := &pair{t: rt, tb: t, h: h, s: h.Open(t, 2), m: NewModel(), state: make(map[wal.Partition]kv.State)}
		defer func() {
			if err := p.s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}()
		g := NewProgram(p.s, p.m)
		g.noTies = h.TiesOfEnds
		g.run(rt, p)
	})
}

// Program writes random batches to a store and its model. It keeps to what the
// log promises a store: nothing older than the horizon of a sweep comes after
// it, and offsets rise.
type Program struct {
	Store kv.Store
	Model *Model

	logTime map[wal.Partition]int64
	horizon map[wal.Partition]int64
	cursor  map[wal.Partition][]byte
	tokens  int
	noTies  bool         // see Harness.TiesOfEnds
	ends    map[tie]bool // writes that end
}

type tie struct {
	p       wal.Partition
	id, key string
	time    int64
}

// NewProgram returns a program over a store and a model that are equal.
func NewProgram(s kv.Store, m *Model) *Program {
	return &Program{Store: s, Model: m, logTime: make(map[wal.Partition]int64), horizon: make(map[wal.Partition]int64), cursor: make(map[wal.Partition][]byte), ends: make(map[tie]bool)}
}

// window is how far below the log time a version may be: a small one, so that
// tombstones settle within a program.
const window = 40

var (
	ids      = []string{"a", "a\x00", "b"}
	itemKeys = []string{"", "\x00", "a", "a\x00", "b", "c", "d", "e", "\xff", "\xff\x00"}
)

func (g *Program) version(t *rapid.T, p wal.Partition, class wal.Class, offset wal.Offset) wal.Version {
	v := wal.Version{Class: class, Nonce: nonce(int64(offset))}
	low := max(g.logTime[p]-window, g.horizon[p])
	v.Time = rapid.Int64Range(low, g.logTime[p]+2).Draw(t, "time")
	if class == wal.Expiring {
		v.Expiry = g.logTime[p] + rapid.Int64Range(-2, 30).Draw(t, "ttl")
		v.Expiry = max(v.Expiry, 1)
	}
	return v
}

// Commit applies one random batch to store and model.
func (g *Program) Commit(t *rapid.T) error {
	p := wal.Partition(rapid.IntRange(0, 1).Draw(t, "partition"))
	g.logTime[p] += rapid.Int64Range(0, 5).Draw(t, "log time passes")
	st := g.Model.State(p)
	st.Applied++
	b := g.Store.Begin(p)
	defer b.Abort()
	w := &write{p: p, batch: b, model: g.Model, newest: true, maxTime: st.MaxTime, logTime: st.LogTime}
	for range rapid.IntRange(0, 6).Draw(t, "changes") {
		g.change(t, w, st.Applied)
	}
	st.MaxTime, st.LogTime = w.maxTime, max(st.LogTime, g.logTime[p])
	g.Model.SetState(p, st)
	return b.Commit(bg, st)
}

func (g *Program) change(t *rapid.T, w *write, offset wal.Offset) {
	id := rapid.SampledFrom(ids).Draw(t, "id")
	k := rapid.SampledFrom(itemKeys).Draw(t, "key")
	switch rapid.SampledFrom([]string{"put", "put", "put", "ttl", "delete", "range", "record", "token", "upload"}).Draw(t, "op") {
	case "put":
		w.put(id, g.version(t, w.p, wal.Live, offset), item(k, rapid.StringN(0, 8, -1).Draw(t, "value")))
	case "ttl":
		v := g.version(t, w.p, wal.Expiring, offset)
		at := tie{w.p, id, k, v.Time}
		if g.noTies && g.ends[at] {
			return
		}
		g.ends[at] = true
		w.put(id, v, item(k, "short-lived"))
	case "delete":
		w.put(id, g.version(t, w.p, wal.Deleted, offset), item(k, ""))
	case "range":
		r := kv.Range{Start: []byte(k), End: []byte(rapid.SampledFrom(itemKeys).Draw(t, "end")), Open: rapid.Bool().Draw(t, "open")}
		if r.Open {
			r.End = nil
		}
		w.deleteRange(id, r, g.version(t, w.p, wal.Deleted, offset))
	case "record":
		w.deleteRecord(id, g.version(t, w.p, wal.Deleted, offset))
	case "token":
		g.tokens++
		e := entry(g.tokens, max(g.logTime[w.p], 1))
		e.Offset = offset
		w.token(e)
	case "upload":
		g.tokens++
		staged(w, kv.UploadID{1, byte(g.tokens >> 8), byte(g.tokens)}, id, k, g.version(t, w.p, wal.Live, offset).Time, 1+g.tokens%3, 5)
	}
}

// Sweep runs one bounded sweep of a random partition.
func (g *Program) Sweep(t *rapid.T) error {
	p := wal.Partition(rapid.IntRange(0, 1).Draw(t, "partition"))
	g.horizon[p] = max(g.horizon[p], g.logTime[p]-window)
	r, err := g.Store.Sweep(bg, &kv.SweepRequest{Partition: p, LogTime: g.logTime[p], Horizon: g.horizon[p], Limit: rapid.IntRange(1, 30).Draw(t, "limit"), Cursor: g.cursor[p]})
	g.cursor[p] = r.Cursor
	return err
}

func (g *Program) run(rt *rapid.T, p *pair) {
	fail := func(err error) {
		if err != nil {
			rt.Fatal(err)
		}
	}
	rt.Repeat(map[string]func(*rapid.T){
		"commit":      func(t *rapid.T) { fail(g.Commit(t)) },
		"commit more": func(t *rapid.T) { fail(g.Commit(t)) },
		"sweep":       func(t *rapid.T) { fail(g.Sweep(t)) },
		"reopen": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "one in four") > 0 {
				return // it takes longer than all else together
			}
			p.reopen()
			g.Store = p.s
		},
		"read": func(t *rapid.T) {
			part := wal.Partition(rapid.IntRange(0, 1).Draw(t, "partition"))
			q := kv.Query{Partition: part, ID: []byte(rapid.SampledFrom(ids).Draw(t, "id")), InlineLimit: plenty}
			q.Now = g.logTime[part] + rapid.Int64Range(0, 40).Draw(t, "now")
			q.MaxBytes = rapid.SampledFrom([]int{1, 250, plenty}).Draw(t, "page")
			q.Descending = rapid.Bool().Draw(t, "descending")
			q.OmitAbove = rapid.SampledFrom([]int64{0, 0, 1, 100, 2999}).Draw(t, "omit above")
			if q.HasRange = rapid.Bool().Draw(t, "range"); q.HasRange {
				q.Range = kv.Range{Start: []byte(rapid.SampledFrom(itemKeys).Draw(t, "start")), End: []byte(rapid.SampledFrom(itemKeys).Draw(t, "end"))}
			}
			p.t = t
			p.check(q)
		},
		"": func(t *rapid.T) {
			p.t = t
			for part := range wal.Partition(2) {
				p.checkAll(part, g.logTime[part])
				for _, e := range g.Model.Tokens(part) {
					got, ok, err := g.Store.Token(bg, part, e.ID)
					if err != nil || (ok && got != e) || (!ok && e.LogTime >= g.horizon[part]) {
						t.Fatalf("token %+v: %+v %v %v", e, got, ok, err)
					}
				}
			}
		},
	})
}
