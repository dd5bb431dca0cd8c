package kv

import (
	"bytes"
	"cmp"
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Snapshot is a view of one partition as of one commit. Used by one goroutine.
type Snapshot interface {
	// State is that of the commit.
	State() consumers.State
	// Scan reads a page, as Store.Scan does.
	Scan(ctx context.Context, q *ScanQuery) (*ScanPage, error)
	Close() error
}

// Moving is a Snapshot that shows what is written while it is read, because its store has none of one moment.
type Moving interface {
	Snapshot
	Moves()
}

// comparePageBytes is how much of each store a comparison holds.
const comparePageBytes = 1 << 20

// Compare finds where two snapshots of a partition, as of one position, are not
// what a reader at now (microseconds since 1970) would see alike: ids, keys,
// values, versions, expiry. looked is told how many items were compared since the
// last call.
//
// Where one of them moves, a difference counts when a second look finds it again.
func Compare(ctx context.Context, p wal.Partition, a, b Snapshot, now int64, r *consumers.Report, looked func(n int64), again *SecondLook) error {
	x, y := newCursor(p, a, now), newCursor(p, b, now)
	_, aMoves := a.(Moving)
	_, bMoves := b.(Moving)
	differ := func(at *cursor, what string) error {
		if aMoves || bMoves {
			var err error
			if what, err = again.differs(ctx, p, at.id(), at.item().Key); err != nil {
				return err
			}
		}
		if what != "" {
			r.Differ(p, at.name(), "%s", what)
		}
		return nil
	}
	for n := int64(1); ; n++ {
		if err := x.fill(ctx); err != nil {
			return err
		}
		if err := y.fill(ctx); err != nil {
			return err
		}
		if x.done && y.done {
			return nil
		}
		switch c := x.compare(y); {
		case c < 0:
			if err := differ(x, differs(x.item(), nil)); err != nil {
				return err
			}
			x.next()
		case c > 0:
			if err := differ(y, differs(nil, y.item())); err != nil {
				return err
			}
			y.next()
		default:
			if what := differs(x.item(), y.item()); what != "" {
				if err := differ(x, what); err != nil {
					return err
				}
			}
			x.next()
			y.next()
		}
		r.Items++
		if n%4096 == 0 {
			looked(4096)
		}
	}
}

// SecondLook looks at one item of two stores again, of which one has no moment to be looked at.
type SecondLook struct {
	A, B Store
	// Level returns once B has applied everything that the log has now.
	Level func(ctx context.Context) error
}

// looks is how often an item is looked at that changes meanwhile. One that never stands still is not a
// difference.
const looks = 5

// differs says what an item of both stores does not have in common: B is asked when it is level with what A
// showed, and A shows the same before and after.
func (l *SecondLook) differs(ctx context.Context, p wal.Partition, id, key []byte) (string, error) {
	for range looks {
		st, err := l.A.State(ctx, p)
		if err != nil {
			return "", err
		}
		before, err := only(ctx, l.A, p, id, key, st.LogTime)
		if err == nil {
			err = l.Level(ctx)
		}
		if err != nil {
			return "", err
		}
		other, err := only(ctx, l.B, p, id, key, st.LogTime)
		if err != nil {
			return "", err
		}
		after, err := only(ctx, l.A, p, id, key, st.LogTime)
		if err != nil {
			return "", err
		}
		if differs(before, after) != "" {
			continue
		}
		what := differs(before, other)
		now, err := l.A.State(ctx, p)
		if what == "" || err != nil || !ended(before, now.LogTime) && !ended(other, now.LogTime) {
			return what, err
		} // what has ended is freed in one store before the other
	}
	return "", nil
}

func ended(it *StoredItem, now int64) bool {
	return it != nil && it.Version.Expiry != 0 && it.Version.Expiry <= now
}

// only is the item of a key, nil where there is none.
func only(ctx context.Context, s Store, p wal.Partition, id, key []byte, now int64) (*StoredItem, error) {
	page, err := s.Get(ctx, &Query{Partition: p, ID: id, Keys: [][]byte{key}, HasKeys: true, Now: now, MaxBytes: comparePageBytes})
	if err != nil || len(page.Items) == 0 {
		return nil, err
	}
	return &page.Items[0], nil
}

// differs says what two items of one key do not have in common, "" when nothing. Nil is one that is not
// there.
func differs(a, b *StoredItem) string {
	switch {
	case a == nil && b == nil:
		return ""
	case b == nil:
		return fmt.Sprintf("the PRIMARY has version %s of it, the other store has nothing", a.Version)
	case a == nil:
		return fmt.Sprintf("the PRIMARY has nothing, the other store has version %s of it", b.Version)
	case a.Version != b.Version:
		return fmt.Sprintf("the PRIMARY has version %s, the other store %s", a.Version, b.Version)
	case a.Size != b.Size || !bytes.Equal(a.Value, b.Value) || a.SHA256 != b.SHA256 || a.Chunks != b.Chunks:
		return fmt.Sprintf("version %s has another value: %d bytes in the PRIMARY, %d in the other store", a.Version, a.Size, b.Size)
	case a.Compression != b.Compression || a.ContentType != b.ContentType:
		return fmt.Sprintf("version %s has another compression or content type", a.Version)
	}
	return ""
}

// cursor walks a snapshot item by item.
type cursor struct {
	snap Snapshot
	q    ScanQuery
	page *ScanPage
	rec  int // in page
	at   int // in the record
	done bool
}

func newCursor(p wal.Partition, s Snapshot, now int64) *cursor {
	return &cursor{snap: s, q: ScanQuery{Partition: p, Now: now, MaxBytes: comparePageBytes, InlineLimit: 0}, page: &ScanPage{More: true}}
}

// fill brings the next item within reach, or ends the cursor.
func (c *cursor) fill(ctx context.Context) error {
	for !c.done && c.rec >= len(c.page.Records) {
		if !c.page.More {
			c.done = true
			return nil
		}
		page, err := c.snap.Scan(ctx, &c.q)
		if err != nil {
			return err
		}
		c.page, c.rec, c.at = page, 0, 0
		c.q.HasAfter, c.q.AfterID, c.q.AfterKey = true, page.LastID, page.LastKey
	}
	return nil
}

func (c *cursor) id() []byte { return c.page.Records[c.rec].ID }

func (c *cursor) item() *StoredItem { return &c.page.Records[c.rec].Items[c.at] }

func (c *cursor) next() {
	if c.at++; c.at >= len(c.page.Records[c.rec].Items) {
		c.rec, c.at = c.rec+1, 0
	}
}

func (c *cursor) name() string {
	return fmt.Sprintf("%q/%q", c.page.Records[c.rec].ID, c.item().Key)
}

// compare orders what two cursors are at, as Scan does: by the length of the id,
// the id, the key. One that is done is behind all.
func (c *cursor) compare(o *cursor) int {
	switch {
	case c.done:
		return 1
	case o.done:
		return -1
	}
	a, b := c.page.Records[c.rec].ID, o.page.Records[o.rec].ID
	return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b), bytes.Compare(c.item().Key, o.item().Key))
}
