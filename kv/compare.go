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

// comparePageBytes is how much of each store a comparison holds.
const comparePageBytes = 1 << 20

// Compare finds where two snapshots of a partition, as of one position, are not
// what a reader at now (microseconds since 1970) would see alike: ids, keys,
// values, versions, expiry. looked is told how many items were compared since the
// last call.
func Compare(ctx context.Context, p wal.Partition, a, b Snapshot, now int64, r *consumers.Report, looked func(n int64)) error {
	x, y := newCursor(p, a, now), newCursor(p, b, now)
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
			r.Differ(p, x.name(), "the PRIMARY has version %s of it, the other store has nothing", x.item().Version)
			x.next()
		case c > 0:
			r.Differ(p, y.name(), "the PRIMARY has nothing, the other store has version %s of it", y.item().Version)
			y.next()
		default:
			if what := differs(x.item(), y.item()); what != "" {
				r.Differ(p, x.name(), "%s", what)
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

// differs says what two items of one key do not have in common, "" when nothing.
func differs(a, b *StoredItem) string {
	switch {
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
