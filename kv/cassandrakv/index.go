package cassandrakv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"

	"github.com/cespare/xxhash/v2"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/wal"
)

// The index of records names every record of a partition that has had an item, because Cassandra lists the
// partitions of a table only together with those of all other stores. A row has the time of a put of its
// record as timestamp, and goes with a delete of the whole record that nothing is newer than: each put above
// that writes it again.

// buckets is how many partitions of the table the index of one partition of a log is spread over: a hundred
// million records of 60 bytes in 12 partitions are 31 MB in each.
const buckets = 16

// bucketOf takes other bits of the hash than those that chose the partition of the log.
func bucketOf(id []byte) int { return int(xxhash.Sum64(id) >> 32 % buckets) }

// knownIDs is how many records of a partition, twice, are remembered to be in the index.
const knownIDs = 64 << 10

// known are records that are in the index, as far as they are remembered: the latest few. Used by the goroutine of the
// partition.
type known struct{ now, before map[[16]byte]struct{} }

func idSum(id []byte) (k [16]byte) {
	sum := sha256.Sum256(id)
	copy(k[:], sum[:])
	return k
}

func (s *known) has(id []byte) bool {
	k := idSum(id)
	if _, ok := s.now[k]; ok {
		return true
	}
	if _, ok := s.before[k]; ok {
		s.put(k)
		return true
	}
	return false
}

func (s *known) add(id []byte) { s.put(idSum(id)) }

func (s *known) put(k [16]byte) {
	if s.now == nil || len(s.now) >= knownIDs {
		s.now, s.before = make(map[[16]byte]struct{}), s.now
	}
	s.now[k] = struct{}{}
}

func (s *known) remove(id []byte) {
	k := idSum(id)
	delete(s.now, k)
	delete(s.before, k)
}

const (
	ofRecord   = " WHERE dataset = ? AND store = ? AND part = ? AND bucket = ? AND len = ? AND id = ?"
	indexRow   = "UPDATE kv_records_1 USING TIMESTAMP ? SET there = true" + ofRecord
	unindexRow = "DELETE FROM kv_records_1 USING TIMESTAMP ?" + ofRecord
)

// indexing are the changes of a record's row, with the timestamp as the only value so far.
func (q *partition) indexing(r *record) (all []cassandrastore.Statement) {
	if r.unput != nil {
		all = append(all, cassandrastore.Statement{CQL: unindexRow, Args: []any{*r.unput}})
	}
	if r.put != nil && (r.unput != nil || !q.known.has(r.id)) {
		all = append(all, cassandrastore.Statement{CQL: indexRow, Args: []any{*r.put}})
	}
	return all
}

// indexed notes what was written. A row is known only where no delete of the index can hide it.
func (q *partition) indexed(r *record) {
	if r.unput != nil {
		q.known.remove(r.id)
		q.unindexed = max(q.unindexed, *r.unput)
	}
	if r.put != nil && *r.put > q.unindexed {
		q.known.add(r.id)
	}
}

// indexWalk lists the records of a partition by the length of their id, then by id: what the buckets have,
// merged.
type indexWalk struct {
	s     *reader
	p     wal.Partition
	after []byte // nil: from the first
	rows  int    // of a bucket at once
	heads [buckets]bucketWalk
}

type bucketWalk struct {
	ids   [][]byte
	after []byte
	ended bool
}

// mostIndexRows is how many rows of a bucket are read at once; a walk begins with the fewest.
const (
	fewestIndexRows = 8
	mostIndexRows   = 1024
)

func (s *reader) newIndexWalk(p wal.Partition, after []byte) *indexWalk {
	w := &indexWalk{s: s, p: p, after: after, rows: fewestIndexRows}
	for i := range w.heads {
		w.heads[i].after = after
	}
	return w
}

// compareIDs is the order of a scan.
func compareIDs(a, b []byte) int { return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b)) }

// next returns the next id, nil at the end.
func (w *indexWalk) next(ctx context.Context) ([]byte, error) {
	var first *bucketWalk
	for i := range w.heads {
		h := &w.heads[i]
		if len(h.ids) == 0 && !h.ended {
			if err := w.read(ctx, i); err != nil {
				return nil, err
			}
		}
		if len(h.ids) > 0 && (first == nil || compareIDs(h.ids[0], first.ids[0]) < 0) {
			first = h
		}
	}
	if first == nil {
		return nil, nil
	}
	id := first.ids[0]
	first.ids = first.ids[1:]
	return id, nil
}

// read reads the next rows of a bucket, and of all others that have none left: one after the other would
// wait as many times.
func (w *indexWalk) read(ctx context.Context, from int) error {
	g, limit := newGroup(ctx), w.rows
	for i := from; i < buckets; i++ {
		if h := &w.heads[i]; len(h.ids) == 0 && !h.ended {
			g.run(func(ctx context.Context) error { return w.readBucket(ctx, i, limit) })
		}
	}
	w.rows = min(2*w.rows, mostIndexRows)
	return g.wait()
}

func (w *indexWalk) readBucket(ctx context.Context, bucket, limit int) error {
	h := &w.heads[bucket]
	q := cassandrastore.Statement{
		CQL:  "SELECT id FROM kv_records_1 WHERE dataset = ? AND store = ? AND part = ? AND bucket = ?",
		Args: []any{w.s.rows.Dataset, w.s.rows.Life, int(w.p), bucket},
	}
	if h.after != nil {
		q.CQL += " AND (len, id) > (?, ?)"
		q.Args = append(q.Args, len(h.after), h.after)
	}
	q.CQL += " LIMIT ?"
	q.Args = append(q.Args, limit)
	err := w.s.rows.Query(ctx, "read the index of records", q, limit, func(scan func(dest ...any) error) (bool, error) {
		var id []byte
		err := scan(&id)
		h.ids = append(h.ids, id)
		return true, err
	})
	if err != nil {
		h.ids = nil
		return err
	}
	h.ended = len(h.ids) < limit
	if n := len(h.ids); n > 0 {
		h.after = h.ids[n-1]
	}
	return nil
}
