package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// tampered is a data directory whose parts are put back from copies.
type tampered struct {
	t   *testing.T
	dir string
	b   *book
	n   int // writes so far
}

func newTampered(t *testing.T) *tampered { return &tampered{t: t, dir: t.TempDir(), b: &book{}} }

// with runs f on an open server.
func (d *tampered) with(f func(c *conn)) {
	d.t.Helper()
	s := open(d.t, d.dir, nil)
	c := connect(d.t, s.GRPCAddr())
	f(c)
	c.close()
	if err := s.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// put writes n items more, in batches.
func (d *tampered) put(c *conn, n int) {
	d.t.Helper()
	for n > 0 {
		var ws []*write
		for range min(n, 200) {
			ws = append(ws, d.b.add(&write{put: &headwaterv1.PutItemsRequest{Namespace: "demo-kv", Id: fmt.Sprintf("id%d", d.n%50), Token: nonceToken(wal.NewNonce(), 0),
				Items: []*headwaterv1.PutItem{{Key: fmt.Appendf(nil, "key%d", d.n/50), Value: fmt.Append(nil, d.n)}}}}))
			d.n++
		}
		n -= len(ws)
		ctx, cancel := callContext()
		for i, a := range c.sendBatch(ctx, ws) {
			d.b.note(ws[i], &a, false)
		}
		cancel()
	}
	if err := d.b.err(); err != nil {
		d.t.Fatal(err)
	}
}

// check compares everything with the book b.
func (d *tampered) check(c *conn, b *book) {
	d.t.Helper()
	if err := b.settle(c); err != nil {
		d.t.Fatal(err)
	}
	if err := b.verify(c, "demo-kv", "demo-log"); err != nil {
		d.t.Fatal(err)
	}
}

// copyOf copies a part of the data directory while nothing uses it.
func (d *tampered) copyOf(part string) string {
	d.t.Helper()
	to := filepath.Join(d.t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(filepath.Join(d.dir, part))); err != nil {
		d.t.Fatal(err)
	}
	return to
}

// putBack replaces a part of the data directory by a copy.
func (d *tampered) putBack(part, from string) {
	d.t.Helper()
	to := filepath.Join(d.dir, part)
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
		d.t.Fatal(err)
	}
}

// trim frees the first records of every partition of demo-kv, which the server
// itself would only do much later.
func (d *tampered) trim(records wal.Offset) {
	d.t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{Dir: filepath.Join(d.dir, "log"), FreeSpaceFloor: -1})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			d.t.Error(err)
		}
	}()
	ctx := context.Background()
	topics, err := b.Topics(ctx)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, info := range topics {
		if !strings.HasPrefix(info.Name, "headwater.kv.demo-kv.") {
			continue
		}
		l, err := b.Open(ctx, info.Name)
		if err != nil {
			d.t.Fatal(err)
		}
		for p := range info.Partitions {
			if err := l.Trim(ctx, wal.Partition(p), records); err != nil {
				d.t.Fatal(err)
			}
		}
		return
	}
	d.t.Fatal("demo-kv has no topic")
}

// TestStoreLevel: a store that is level with its log is not touched.
func TestStoreLevel(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 400) })
	d.with(func(c *conn) { d.check(c, d.b) })
}

// TestStoreBehind puts an old copy of the stores back, and none at all: the log
// brings them up to date before the first write is taken, the tokens included.
func TestStoreBehind(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 500) })
	old := d.copyOf("stores")
	d.with(func(c *conn) { d.put(c, 500) })
	for _, how := range []string{"an old copy", "nothing"} {
		if how == "nothing" {
			old = t.TempDir()
		}
		d.putBack("stores", old)
		d.with(func(c *conn) {
			if err := d.b.again(c, d.b.order[len(d.b.order)-100:]); err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			d.check(c, d.b)
		})
	}
}

// TestTokensBeforeWrites starts on a long log without its store, and sends the
// last of its writes again as soon as writes are taken: each token must be known.
func TestTokensBeforeWrites(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 20_000) })
	d.putBack("stores", t.TempDir())
	d.with(func(c *conn) {
		if err := d.b.again(c, d.b.order[len(d.b.order)-200:]); err != nil {
			t.Fatal(err)
		}
	})
}

// TestStoreAhead puts an old copy of the log back: the store, which has what the
// log does not, is rebuilt from the log, so that no record is ever applied under an
// offset that the store has used.
func TestStoreAhead(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 500) })
	log := d.copyOf("log")
	c := crash{}
	c.settled, c.begun = d.b.size()
	d.with(func(c *conn) { d.put(c, 500) })
	d.putBack("log", log)
	d.with(func(conn *conn) {
		d.b = d.b.asOf(&c)
		d.check(conn, d.b)
		d.put(conn, 200)
		d.check(conn, d.b)
	})
	d.with(func(c *conn) { d.check(c, d.b) })
}

// refusedNamespace opens the server and requires demo-kv, and only that, to be
// refused with an error that says want.
func (d *tampered) refusedNamespace(want string) {
	d.t.Helper()
	d.with(func(c *conn) {
		ctx, cancel := callContext()
		defer cancel()
		if _, err := c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: "demo-kv", Id: "id0"}); err == nil {
			d.t.Error("a namespace that is not whole is read")
		}
		w := &write{put: &headwaterv1.PutItemsRequest{Namespace: "demo-kv", Id: "id0", Items: []*headwaterv1.PutItem{{Key: []byte("k")}}}}
		if a := c.send(ctx, w); a.outcome != notApplied {
			d.t.Errorf("a write to a namespace that is not whole: %v", &a)
		}
		status, err := headwaterv1.NewAdminServiceClient(c.cc).Status(ctx, &headwaterv1.StatusRequest{})
		if err != nil {
			d.t.Fatal(err)
		}
		if s := fmt.Sprint(status); !strings.Contains(s, want) {
			d.t.Errorf("status does not say %q: %s", want, s)
		}
		l := d.b.add(&write{log: &headwaterv1.WriteToLogRequest{Namespace: "demo-log", Key: "k", Payload: []byte("others are served"), Token: nonceToken(wal.NewNonce(), 0)}})
		a := c.send(ctx, l)
		if d.b.note(l, &a, false); a.outcome != acked {
			d.t.Errorf("another namespace: %v", &a)
		}
	})
}

// TestRangeInNeither trims the log and loses the store, or sets it back before
// what was trimmed: nothing can bring the missing records back, so the namespace
// is refused and the range named.
func TestRangeInNeither(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 100) })
	old := d.copyOf("stores")
	d.with(func(c *conn) { d.put(c, 2000) })
	now := d.copyOf("stores")
	d.trim(12)
	d.putBack("stores", t.TempDir())
	d.refusedNamespace("offsets 0 to 11 are in neither")
	d.putBack("stores", old)
	d.refusedNamespace("to 11 are in neither")
	d.putBack("stores", now)
	d.with(func(c *conn) { d.check(c, d.b) })
}

// TestAheadOfTrimmedLog is TestStoreAhead where the log does not begin at its
// beginning any more.
func TestAheadOfTrimmedLog(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 2000) })
	d.trim(3)
	log := d.copyOf("log")
	d.with(func(c *conn) { d.put(c, 2000) })
	d.putBack("log", log)
	d.refusedNamespace("is ahead of its log")
}

// TestLogLost takes the log away: without it the registry is gone too, and a
// process that began a new one would serve nothing where there was something.
func TestLogLost(t *testing.T) {
	d := newTampered(t)
	d.with(func(c *conn) { d.put(c, 100) })
	d.putBack("log", t.TempDir())
	s, err := server.Open(context.Background(), server.Config{DataDir: d.dir, Demo: true, FreeSpaceFloor: -1})
	if err == nil {
		t.Fatal("a data directory without its log is served", errors.Join(s.Close()))
	}
	if !strings.Contains(err.Error(), "log") {
		t.Errorf("the error does not name the log: %v", err)
	}
}

// TestStoreOfAnotherNamespace swaps the stores of two namespaces of the same
// shape: neither may answer with what the other holds.
func TestStoreOfAnotherNamespace(t *testing.T) {
	d := newTampered(t)
	namespaces := func(c *server.Config) {
		c.Namespaces = []string{"namespace: one\nabstraction: kv\n", "namespace: two\nabstraction: kv\n"}
		c.Demo = false
	}
	put := func(c *conn, ns string) {
		ctx, cancel := callContext()
		defer cancel()
		w := &write{put: &headwaterv1.PutItemsRequest{Namespace: ns, Id: "id", Token: nonceToken(wal.NewNonce(), 0), Items: []*headwaterv1.PutItem{{Key: []byte("of"), Value: []byte(ns)}}}}
		if a := c.send(ctx, w); a.outcome != acked {
			t.Fatal(&a)
		}
	}
	s := open(t, d.dir, namespaces)
	c := connect(t, s.GRPCAddr())
	put(c, "one")
	put(c, "two")
	c.close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dirs, err := os.ReadDir(filepath.Join(d.dir, "stores"))
	if err != nil || len(dirs) != 2 {
		t.Fatal(dirs, err)
	}
	a, b := filepath.Join("stores", dirs[0].Name()), filepath.Join("stores", dirs[1].Name())
	x, y := d.copyOf(a), d.copyOf(b)
	d.putBack(a, y)
	d.putBack(b, x)
	s = open(t, d.dir, namespaces)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	c = connect(t, s.GRPCAddr())
	for _, ns := range []string{"one", "two"} {
		ctx, cancel := callContext()
		r, err := c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: ns, Id: "id"})
		cancel()
		if err != nil {
			continue // refused: that is right as well
		}
		if len(r.Items) != 1 || string(r.Items[0].Value) != ns {
			t.Errorf("namespace %s answers %v", ns, r.Items)
		}
	}
}
