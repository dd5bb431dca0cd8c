package proof

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/kvtest"
	"github.com/headwater-db/headwater/wal"
)

// TestModel runs random programs of one caller against the public API and a
// plain model: every answer must be the model's, also after restarts.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	h := &host{t: t, dir: dir}
	h.restart()
	t.Cleanup(h.stop)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		p := &program{t: rt, host: h, m: kvtest.NewModel(), ns: fmt.Sprintf("model-%d", n), base: time.Now().UnixMicro()}
		p.applyNamespace()
		defer p.deleteNamespace()
		rt.Repeat(map[string]func(*rapid.T){
			"put":         p.put,
			"put for ttl": p.putTTL,
			"conditional": p.conditional,
			"delete":      p.remove,
			"delete if":   p.removeIf,
			"group":       p.group,
			"resend":      p.resend,
			"get":         p.get,
			"refused":     p.malformed,
			"restart": func(rt *rapid.T) {
				if rapid.IntRange(0, 7).Draw(rt, "one in eight") == 0 {
					h.restart()
				}
			},
			"": func(rt *rapid.T) {
				p.t = rt
				p.compareAll()
			},
		})
		p.t = rt
		p.compareScan()
		h.restart()
		p.compareScan()
	})
}

// host is the service under test, through its restarts.
type host struct {
	t   *testing.T
	dir string
	s   *server.Server
	c   *conn
}

func (h *host) stop() {
	if h.s == nil {
		return
	}
	h.c.close()
	if err := h.s.Close(); err != nil {
		h.t.Error(err)
	}
	h.s = nil
}

func (h *host) restart() {
	h.stop()
	h.s = open(h.t, h.dir, func(c *server.Config) { c.Demo = false })
	h.c = connect(h.t, h.s.GRPCAddr())
}

// program is one random program.
type program struct {
	t *rapid.T
	*host
	m    *kvtest.Model
	ns   string
	base int64 // that the caller's times are near to
	done []sent
}

// sent is a write and what it got.
type sent struct {
	w *write
	a answer
}

// All ids may be in one partition or in several; the model has no need to know.
const anyPartition = wal.Partition(0)

var (
	modelIDs  = []string{"a", "a\x00", "ä", "long record id with spaces / and % signs"}
	modelKeys = []string{"", "\x00", "a", "a\x00", "b", "c", "d", "\xff", "\xff\x00"}
)

func (p *program) applyNamespace() {
	ctx, cancel := callContext()
	defer cancel()
	doc := fmt.Sprintf("namespace: %s\nabstraction: kv\nlog: { partitions: 2 }\n", p.ns)
	if _, err := headwaterv1.NewNamespaceServiceClient(p.c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: doc}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) deleteNamespace() {
	ctx, cancel := callContext()
	defer cancel()
	if _, err := headwaterv1.NewNamespaceServiceClient(p.c.cc).DeleteNamespace(ctx, &headwaterv1.DeleteNamespaceRequest{Namespace: p.ns, Confirm: p.ns}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) id() string { return rapid.SampledFrom(modelIDs).Draw(p.t, "id") }
func (p *program) key() []byte {
	return []byte(rapid.SampledFrom(modelKeys).Draw(p.t, "key"))
}

// token leaves the time to the server, or takes one of a few, so that times tie.
func (p *program) token() *headwaterv1.IdempotencyToken {
	n := wal.NewNonce()
	if rapid.Bool().Draw(p.t, "server's time") {
		return nonceToken(n, 0)
	}
	return nonceToken(n, p.base+rapid.Int64Range(0, 4).Draw(p.t, "time"))
}

func (p *program) items(id string, ttl time.Duration) *headwaterv1.PutItemsRequest {
	req := &headwaterv1.PutItemsRequest{Namespace: p.ns, Id: id, Token: p.token()}
	for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom(modelKeys), 1, 3, rapid.ID).Draw(p.t, "keys") {
		it := &headwaterv1.PutItem{Key: []byte(k), Value: []byte(rapid.StringN(0, 400, -1).Draw(p.t, "value"))}
		if ttl != 0 {
			it.Ttl = durationpb.New(ttl)
		}
		req.Items = append(req.Items, it)
	}
	return req
}

func (p *program) send(w *write) answer {
	ctx, cancel := callContext()
	defer cancel()
	return p.c.send(ctx, w)
}

// applied sends a write that has to be acknowledged.
func (p *program) applied(w *write) answer {
	p.t.Helper()
	a := p.send(w)
	if a.outcome != acked || a.again {
		p.t.Fatalf("%v: %v", w, &a)
	}
	p.done = append(p.done, sent{w, a})
	return a
}

func (p *program) put(rt *rapid.T) {
	p.t = rt
	req := p.items(p.id(), 0)
	a := p.applied(&write{put: req})
	p.modelPut(req, &a, a.time)
}

// modelPut puts into the model with version time t.
func (p *program) modelPut(req *headwaterv1.PutItemsRequest, a *answer, t int64) {
	p.t.Helper()
	for i, it := range req.Items {
		v := wal.Version{Time: t, Nonce: a.nonce}
		if it.Ttl != nil {
			v.Class, v.Expiry = wal.Expiring, a.versions[i].Expiry
		}
		if a.versions != nil && a.versions[i] != v {
			p.t.Fatalf("put %q %q got version %+v, want %+v", req.Id, it.Key, a.versions[i], v)
		}
		p.m.Put(anyPartition, []byte(req.Id), v, &kv.StoredItem{Key: it.Key, Value: it.Value})
	}
}

func (p *program) putTTL(rt *rapid.T) {
	p.t = rt
	ttl := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Hour}).Draw(rt, "ttl")
	req := p.items(p.id(), ttl)
	before := time.Now()
	a := p.applied(&write{put: req})
	for _, v := range a.versions {
		// The server's clock may be a little ahead of this one: it never falls.
		if e := v.Expiry; e < before.Add(ttl).UnixMicro() || e > time.Now().Add(ttl+time.Second).UnixMicro() {
			rt.Fatalf("a ttl of %v is an expiry of %d", ttl, e)
		}
	}
	p.modelPut(req, &a, a.time)
	if ttl < time.Second { // what follows is after the expiry, by every clock
		timer := time.NewTimer(time.Until(time.UnixMicro(a.versions[0].Expiry)) + time.Millisecond)
		defer timer.Stop()
		<-timer.C
	}
}

// now is a time that is after the expiry of what has expired and before that of
// the rest.
func now() int64 { return time.Now().UnixMicro() }

// raised is the version time of a conditional write: above what its keys hold.
func (p *program) raised(own int64, id string, keys ...[]byte) int64 {
	for _, k := range keys {
		if _, newest, _ := p.m.Item(anyPartition, []byte(id), k, now()); newest != (wal.Version{}) {
			own = max(own, newest.Time+1)
		}
	}
	return own
}

// version draws a version for a condition on a key: the one it has, or another.
func (p *program) version(id string, key []byte) wal.Version {
	it, newest, found := p.m.Item(anyPartition, []byte(id), key, now())
	if found && rapid.IntRange(0, 3).Draw(p.t, "current") > 0 {
		return it.Version
	}
	newest.Nonce[0] += byte(rapid.IntRange(0, 1).Draw(p.t, "another nonce"))
	return newest
}

func ifVersion(v wal.Version) *headwaterv1.Condition {
	return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: v.String()}}
}

// holds says whether a condition holds in the model, and what it finds else.
func (p *program) holds(c *headwaterv1.Condition, id string, keys ...[]byte) (current string, ok bool) {
	for _, k := range keys {
		it, _, found := p.m.Item(anyPartition, []byte(id), k, now())
		ok := !found
		if v := c.GetIfVersion(); v != "" {
			ok = found && it.Version.String() == v
		}
		if !ok {
			if found {
				current = it.Version.String()
			}
			return current, false
		}
	}
	return "", true
}

func (p *program) conditional(rt *rapid.T) {
	p.t = rt
	req := p.items(p.id(), 0)
	req.Condition = &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}
	if rapid.Bool().Draw(rt, "if version") {
		req.Items = req.Items[:1]
		req.Condition = ifVersion(p.version(req.Id, req.Items[0].Key))
	}
	var keys [][]byte
	for _, it := range req.Items {
		keys = append(keys, it.Key)
	}
	w := &write{put: req}
	current, ok := p.holds(req.Condition, req.Id, keys...)
	if !ok {
		p.refusedBy(w, current)
		return
	}
	a := p.applied(w)
	p.modelPut(req, &a, p.raised(a.time, req.Id, keys...))
}

// refusedBy sends a write whose condition does not hold.
func (p *program) refusedBy(w *write, current string) {
	p.t.Helper()
	a := p.send(w)
	if a.outcome != refused || a.current != current {
		p.t.Fatalf("%v: %v, want it refused by version %q", w, &a, current)
	}
	p.done = append(p.done, sent{w, a})
}

// predicate draws what to select, and the same as a function.
func (p *program) predicate(read bool) (*headwaterv1.Predicate, func(key string) bool, bool) {
	switch rapid.SampledFrom([]string{"all", "keys", "keys", "range", "range", "range"}).Draw(p.t, "predicate") {
	case "all":
		return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}, func(string) bool { return true }, false
	case "keys":
		keys := rapid.SliceOfNDistinct(rapid.SampledFrom(modelKeys), 1, 4, rapid.ID).Draw(p.t, "keys")
		m := &headwaterv1.Predicate_MatchKeys{}
		for _, k := range keys {
			m.Keys = append(m.Keys, []byte(k))
		}
		return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: m}}, func(k string) bool { return slices.Contains(keys, k) }, false
	}
	m := &headwaterv1.Predicate_MatchRange{}
	a, b := string(p.key()), string(p.key())
	if a > b {
		a, b = b, a
	}
	if rapid.Bool().Draw(p.t, "start") {
		m.Start, m.StartExclusive = []byte(a), rapid.Bool().Draw(p.t, "exclusive")
	}
	if rapid.Bool().Draw(p.t, "end") {
		m.End, m.EndInclusive = []byte(b), rapid.Bool().Draw(p.t, "inclusive")
	}
	if read && rapid.Bool().Draw(p.t, "direction") {
		m.Descending = proto.Bool(rapid.Bool().Draw(p.t, "descending"))
	}
	within := func(k string) bool {
		return (m.Start == nil || k > a || k == a && !m.StartExclusive) && (m.End == nil || k < b || k == b && m.EndInclusive)
	}
	return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchRange_{MatchRange: m}}, within, m.GetDescending()
}

// modelDelete deletes what a predicate selects, key by key for keys and as a
// range else: what is put later with an older time stays deleted.
func (p *program) modelDelete(req *headwaterv1.DeleteItemsRequest, t int64, n wal.Nonce) {
	v := wal.Version{Time: t, Class: wal.Deleted, Nonce: n}
	switch m := req.Predicate.Predicate.(type) {
	case *headwaterv1.Predicate_MatchAll_:
		p.m.DeleteRecord(anyPartition, []byte(req.Id), v)
	case *headwaterv1.Predicate_MatchKeys_:
		for _, k := range m.MatchKeys.Keys {
			p.m.Put(anyPartition, []byte(req.Id), v, &kv.StoredItem{Key: k})
		}
	case *headwaterv1.Predicate_MatchRange_:
		r := kv.Range{Start: m.MatchRange.Start, End: m.MatchRange.End, Open: m.MatchRange.End == nil}
		if m.MatchRange.StartExclusive {
			r.Start = append(slices.Clone(r.Start), 0)
		}
		if m.MatchRange.EndInclusive {
			r.End = append(slices.Clone(r.End), 0)
		}
		p.m.DeleteRange(anyPartition, []byte(req.Id), r, v)
	}
}

// deletion draws a delete that the API takes: an exclusive bound needs the bound.
func (p *program) deletion() (*headwaterv1.DeleteItemsRequest, func(string) bool) {
	pred, within, _ := p.predicate(false)
	return &headwaterv1.DeleteItemsRequest{Namespace: p.ns, Id: p.id(), Predicate: pred, Token: p.token()}, within
}

func (p *program) remove(rt *rapid.T) {
	p.t = rt
	req, _ := p.deletion()
	a := p.applied(&write{del: req})
	p.modelDelete(req, a.time, a.nonce)
}

func (p *program) removeIf(rt *rapid.T) {
	p.t = rt
	id, k := p.id(), p.key()
	req := &headwaterv1.DeleteItemsRequest{Namespace: p.ns, Id: id, Token: p.token(), Condition: ifVersion(p.version(id, k)),
		Predicate: &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: [][]byte{k}}}}}
	w := &write{del: req}
	if current, ok := p.holds(req.Condition, id, k); !ok {
		p.refusedBy(w, current)
		return
	}
	a := p.applied(w)
	p.modelDelete(req, p.raised(a.time, id, k), a.nonce)
}

// group draws puts and deletes of one record that take effect one after the
// other, and at once.
func (p *program) group(rt *rapid.T) {
	p.t = rt
	type step struct {
		put    *headwaterv1.PutItemsRequest
		del    *headwaterv1.DeleteItemsRequest
		within func(string) bool
		early  bool
	}
	var steps []step
	req := &headwaterv1.MutateItemsRequest{Token: p.token()}
	id, twice := p.id(), false
	for range rapid.IntRange(1, 4).Draw(rt, "steps") {
		if rapid.Bool().Draw(rt, "put") {
			put := p.items(id, 0)
			put.Token = nil
			req.Mutations = append(req.Mutations, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Put{Put: put}})
			live := &headwaterv1.PutItemsRequest{Id: id, Items: slices.Clone(put.Items)}
			for _, it := range put.Items {
				for i := range steps {
					s := &steps[i]
					if s.put != nil {
						twice = twice || slices.ContainsFunc(s.put.Items, func(o *headwaterv1.PutItem) bool { return bytes.Equal(o.Key, it.Key) })
					} else if s.within(string(it.Key)) {
						s.early = true
					}
				}
			}
			steps = append(steps, step{put: live})
			continue
		}
		del, within := p.deletion()
		del.Id, del.Token = id, nil
		req.Mutations = append(req.Mutations, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Delete{Delete: del}})
		for i := range steps {
			if s := &steps[i]; s.put != nil {
				s.put.Items = slices.DeleteFunc(s.put.Items, func(it *headwaterv1.PutItem) bool { return within(string(it.Key)) })
			}
		}
		steps = append(steps, step{del: del, within: within})
	}
	w := &write{mutate: req}
	if twice {
		if a := p.send(w); a.outcome != notApplied || apierrors.FromStatus(a.err).Reason != apierrors.DuplicateKey {
			rt.Fatalf("%v puts a key twice: %v", w, &a)
		}
		return
	}
	a := p.applied(w)
	for _, early := range []bool{true, false} {
		for _, s := range steps {
			switch {
			case s.del != nil && s.early && early:
				p.modelDelete(s.del, a.time-1, a.nonce)
			case s.del != nil && !s.early && !early:
				p.modelDelete(s.del, a.time, a.nonce)
			case s.put != nil && !early:
				p.modelPut(s.put, &a, a.time)
			}
		}
	}
}

// resend sends an earlier write again, or another under its token.
func (p *program) resend(rt *rapid.T) {
	p.t = rt
	if len(p.done) == 0 {
		return
	}
	s := rapid.SampledFrom(p.done).Draw(rt, "earlier")
	if rapid.Bool().Draw(rt, "another request") {
		if s.w.mutate != nil && len(s.w.mutate.Mutations) == 1 {
			return
		}
		if a := p.send(s.w.other()); a.outcome != reused {
			rt.Fatalf("%v under a known token: %v", s.w.other(), &a)
		}
		return
	}
	a := p.send(s.w)
	if a.outcome != s.a.outcome || a.outcome == acked && (!a.again || a.offset != s.a.offset || a.time != s.a.time) || !slices.Equal(a.versions, s.a.versions) || a.current != s.a.current {
		rt.Fatalf("%v again: %v, first %v", s.w, &a, &s.a)
	}
}

// malformed sends what is refused before the log.
func (p *program) malformed(rt *rapid.T) {
	p.t = rt
	req := p.items(p.id(), 0)
	switch rapid.IntRange(0, 3).Draw(rt, "fault") {
	case 0:
		req.Items = append(req.Items, req.Items[0])
	case 1:
		req.Id = ""
	case 2:
		req.Items[0].Key = make([]byte, 1025)
	case 3:
		req.Token = nonceToken(wal.NewNonce(), time.Now().Add(time.Hour).UnixMicro())
	}
	if a := p.send(&write{put: req}); a.outcome != notApplied {
		rt.Fatalf("a malformed put: %v", &a)
	}
}

// want is what a read of id must answer, in order.
func (p *program) want(id string, within func(string) bool, descending bool) (items []kv.StoredItem) {
	for _, it := range p.m.Get(&kv.Query{Partition: anyPartition, ID: []byte(id), Now: now(), InlineLimit: 4 << 20}) {
		if within(string(it.Key)) {
			items = append(items, it)
		}
	}
	sort.Slice(items, func(i, j int) bool { return bytes.Compare(items[i].Key, items[j].Key) < 0 != descending })
	return items
}

func (p *program) get(rt *rapid.T) {
	p.t = rt
	pred, within, descending := p.predicate(true)
	id := p.id()
	want := p.want(id, within, descending)
	if m := pred.GetMatchKeys(); m != nil { // answered in the order asked for
		byKey := make(map[string]kv.StoredItem)
		for _, it := range want {
			byKey[string(it.Key)] = it
		}
		want = want[:0]
		for _, k := range m.Keys {
			if it, ok := byKey[string(k)]; ok {
				want = append(want, it)
			}
		}
	}
	sel := &headwaterv1.Selection{OmitValues: rapid.Bool().Draw(rt, "omit values")}
	if rapid.Bool().Draw(rt, "small pages") {
		size := int64(1 << 10)
		sel.PageSizeBytes = &size
	}
	if rapid.Bool().Draw(rt, "limit") {
		n := int32(rapid.IntRange(1, 3).Draw(rt, "items"))
		sel.ItemLimit = &n
	}
	req := &headwaterv1.GetItemsRequest{Namespace: p.ns, Id: id, Predicate: pred, Selection: sel,
		Consistency: headwaterv1.Consistency(rapid.IntRange(0, 2).Draw(rt, "consistency"))}
	var got []*headwaterv1.Item
	for {
		ctx, cancel := callContext()
		r, err := p.c.kv.GetItems(ctx, req)
		cancel()
		if err != nil {
			rt.Fatal(err)
		}
		if sel.ItemLimit != nil && len(r.Items) > int(*sel.ItemLimit) {
			rt.Fatalf("a page of %d items, and %d were asked for", len(r.Items), *sel.ItemLimit)
		}
		size := 0
		for _, it := range r.Items {
			size += len(it.Key) + len(it.Value)
		}
		if sel.PageSizeBytes != nil && size > int(*sel.PageSizeBytes) && len(r.Items) > 1 {
			rt.Fatalf("a page of %d bytes, and %d were asked for", size, *sel.PageSizeBytes)
		}
		got = append(got, r.Items...)
		if req.PageToken = r.NextPageToken; req.PageToken == "" {
			break
		}
		if rapid.IntRange(0, 19).Draw(rt, "restart between pages") == 0 {
			p.host.restart()
		}
	}
	p.same(fmt.Sprintf("get %q %v", id, pred), want, got, sel.OmitValues)
}

func (p *program) same(what string, want []kv.StoredItem, got []*headwaterv1.Item, omit bool) {
	p.t.Helper()
	if len(want) != len(got) {
		p.t.Fatalf("%s: %d items, want %d\ngot %v\nwant %v", what, len(got), len(want), got, want)
	}
	for i := range want {
		w, g := &want[i], got[i]
		value := w.Value
		if omit {
			value = nil
		}
		if !bytes.Equal(w.Key, g.Key) || !bytes.Equal(value, g.Value) || g.Version != w.Version.String() || g.Size != int64(len(w.Value)) {
			p.t.Fatalf("%s: item %d is %v, want %+v", what, i, g, w)
		}
	}
}

// compareAll reads every record whole.
func (p *program) compareAll() {
	p.t.Helper()
	for _, id := range modelIDs {
		ctx, cancel := callContext()
		r, err := p.c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: p.ns, Id: id})
		cancel()
		if err != nil {
			p.t.Fatal(err)
		}
		p.same(fmt.Sprintf("record %q", id), p.want(id, func(string) bool { return true }, false), r.Items, false)
	}
}

// compareScan scans everything, in shards and small pages.
func (p *program) compareScan() {
	p.t.Helper()
	of := int32(rapid.IntRange(1, 5).Draw(p.t, "shards"))
	got := make(map[string][]*headwaterv1.Item)
	for i := range of {
		size := int64(1 << 10)
		req := &headwaterv1.ScanItemsRequest{Namespace: p.ns, Shard: &headwaterv1.Shard{Index: i, Of: of}, PageSizeBytes: &size}
		for {
			ctx, cancel := callContext()
			r, err := p.c.kv.ScanItems(ctx, req)
			cancel()
			if err != nil {
				p.t.Fatal(err)
			}
			for _, rec := range r.Records {
				got[rec.Id] = append(got[rec.Id], rec.Items...)
			}
			if req.PageToken = r.NextPageToken; req.PageToken == "" {
				break
			}
		}
	}
	for _, id := range modelIDs {
		p.same(fmt.Sprintf("scan of %q", id), p.want(id, func(string) bool { return true }, false), got[id], false)
		delete(got, id)
	}
	if len(got) > 0 {
		p.t.Fatalf("the scan has records that nobody wrote: %v", got)
	}
}

// TestModelDeletedNamespace: what a deleted namespace held is gone, also when one
// of its name is made again.
func TestModelDeletedNamespace(t *testing.T) {
	h := &host{t: t, dir: t.TempDir()}
	h.restart()
	t.Cleanup(h.stop)
	ns := headwaterv1.NewNamespaceServiceClient(h.c.cc)
	for life := range 3 {
		ctx, cancel := callContext()
		if _, err := ns.ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: "namespace: again\nabstraction: kv\n"}); err != nil {
			t.Fatal(err)
		}
		get := func() ([]*headwaterv1.Item, error) {
			r, err := h.c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: "again", Id: "id"})
			return r.GetItems(), err
		}
		if items, err := get(); err != nil || len(items) != 0 {
			t.Fatalf("life %d begins with %v, %v", life, items, err)
		}
		w := &write{put: &headwaterv1.PutItemsRequest{Namespace: "again", Id: "id", Items: []*headwaterv1.PutItem{{Key: []byte("k")}}, Token: nonceToken(wal.NonceOfKey("the same in every life"), 0)}}
		if a := h.c.send(ctx, w); a.outcome != acked || a.again {
			t.Fatalf("life %d: %v", life, &a)
		}
		if _, err := ns.DeleteNamespace(ctx, &headwaterv1.DeleteNamespaceRequest{Namespace: "again", Confirm: "again"}); err != nil {
			t.Fatal(err)
		}
		if _, err := get(); status.Code(err) != codes.NotFound {
			t.Fatalf("life %d is over: %v", life, err)
		}
		cancel()
	}
}
