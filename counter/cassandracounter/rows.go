package cassandracounter

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// rows are what Cassandra has of one partition.
type rows struct {
	*cassandrastore.Rows
	p wal.Partition
}

var _ counter.Copied = (*rows)(nil)

// args are the values of a statement: before is that of its timestamp, and after those behind whose row it is.
func (r *rows) args(before any, after ...any) []any {
	return append([]any{before, r.Dataset, r.Life, int(r.p)}, after...)
}

// at is the timestamp of what is as of o.
func at(o wal.Offset) int64 { return int64(o) + 1 }

// goneFor is how long, in seconds, a row says that its counter is gone: who takes the partition over and repeats an add of
// before must not begin the counter once more.
const goneFor = 30 * 24 * 3600

// saveRow is the statement that publishes a row; nil: the counter is gone.
func (r *rows) saveRow(name []byte, row *counter.Row, to wal.Offset) cassandrastore.Statement {
	seconds := 0 // for ever
	if row == nil {
		row = &counter.Row{LastOffset: to}
	}
	if row.ID == 0 {
		seconds = goneFor
	}
	return cassandrastore.Statement{
		CQL:  "UPDATE counter_rows_1 USING TIMESTAMP ? AND TTL ? SET count = ?" + ofBucket + " AND name = ?",
		Args: []any{at(max(to, row.LastOffset)), seconds, rowcodec.AppendRow(nil, row), r.Dataset, r.Life, int(r.p), bucketOf(name), name},
	}
}

// saveWindow is the statement that publishes what a record has added to a bucket.
func (r *rows) saveWindow(w *counter.WindowPart) cassandrastore.Statement {
	return cassandrastore.Statement{
		CQL: "UPDATE counter_windows_1 USING TIMESTAMP ? SET sum = ?" + ofLife + " AND seconds = ? AND start = ? AND record = ?",
		Args: []any{
			at(w.At), rowcodec.AppendWindow(nil, &w.Bucket), r.Dataset, r.Life, int(r.p), int64(w.ID), int64(w.Size / time.Second), w.Start, int64(w.At),
		},
	}
}

// saveReservation is the statement that publishes a reservation. One that has ended goes by itself after keep; one in no
// state is gone.
func (r *rows) saveReservation(v *counter.Reservation, to wal.Offset, keep time.Duration) cassandrastore.Statement {
	if v.State == 0 {
		return cassandrastore.Statement{
			CQL: "DELETE FROM counter_reservations_1 USING TIMESTAMP ?" + ofBucket + " AND id = ?", Args: r.args(at(to), bucketOf(v.ID[:]), v.ID[:]),
		}
	}
	seconds := 0 // as long as it is held
	if v.State != counter.Held {
		seconds = int(keep / time.Second)
	}
	return cassandrastore.Statement{
		CQL:  "UPDATE counter_reservations_1 USING TIMESTAMP ? AND TTL ? SET about = ?" + ofBucket + " AND id = ?",
		Args: []any{at(to), seconds, rowcodec.AppendReservation(nil, v), r.Dataset, r.Life, int(r.p), bucketOf(v.ID[:]), v.ID[:]},
	}
}

// dropWindows is the statement that removes the windows of a life.
func (r *rows) dropWindows(life uint64, timestamp int64) cassandrastore.Statement {
	return cassandrastore.Statement{CQL: "DELETE FROM counter_windows_1 USING TIMESTAMP ?" + ofLife, Args: r.args(timestamp, int64(life))}
}

// published says that everything is published up to st.
func (r *rows) published(ctx context.Context, st *counter.State) error {
	about := binary.AppendVarint(binary.AppendVarint([]byte{statusVersion}, int64(st.Applied)), st.LogTime)
	return r.Exec(ctx, "say up to where counters are published", cassandrastore.Statement{
		CQL:  "UPDATE counter_rows_1 USING TIMESTAMP ? SET count = ?" + ofBucket + " AND name = ?",
		Args: []any{at(st.Applied), about, r.Dataset, r.Life, int(r.p), statusBucket, []byte{}},
	})
}

const statusVersion = 1

// status reads what published wrote: Applied is wal.NoOffset where nothing is published.
func (r *rows) status(ctx context.Context) (st counter.State, err error) {
	st.Applied, st.Folded = wal.NoOffset, wal.NoOffset
	q := cassandrastore.Statement{CQL: "SELECT count FROM counter_rows_1" + ofBucket, Args: r.of(statusBucket)}
	err = r.Query(ctx, "read up to where counters are published", q, 1, func(scan func(dest ...any) error) (bool, error) {
		var about []byte
		if err := scan(&about); err != nil {
			return false, err
		}
		if len(about) == 0 || about[0] != statusVersion {
			return false, fmt.Errorf("%w: up to where counters are published", wal.ErrUnknownVersion)
		}
		applied, n := binary.Varint(about[1:])
		logTime, m := binary.Varint(about[1+max(n, 0):])
		if n <= 0 || m <= 0 {
			return false, fmt.Errorf("%w: up to where counters are published", wal.ErrCorrupt)
		}
		st.Applied, st.LogTime = wal.Offset(applied), logTime
		return false, nil
	})
	return st, err
}

// of are the values of a statement without a timestamp.
func (r *rows) of(after ...any) []any { return r.args(nil, after...)[1:] }

const (
	rowsAtOnce = 2000
	bucketsAt  = 8 // how many buckets are read side by side
)

// Counters implements counter.Copied. f is called by one goroutine at a time.
func (r *rows) Counters(ctx context.Context, f func(name []byte, row *counter.Row) error) error {
	var row counter.Row
	return r.each(ctx, "SELECT name, count FROM counter_rows_1"+ofBucket, func(name, b []byte) error {
		if err := rowcodec.DecodeRow(b, &row); err != nil {
			return fmt.Errorf("the row of a counter in Cassandra: %w", err)
		}
		return f(name, &row)
	})
}

// Reservations implements counter.Copied. f is called by one goroutine at a time.
func (r *rows) Reservations(ctx context.Context, f func(v *counter.Reservation) error) error {
	return r.each(ctx, "SELECT id, about FROM counter_reservations_1"+ofBucket, func(key, b []byte) error {
		var id wal.TokenID
		if copy(id[:], key); len(key) != len(id) {
			return fmt.Errorf("%w: the id of a reservation in Cassandra has %d bytes", wal.ErrCorrupt, len(key))
		}
		v, err := rowcodec.DecodeReservation(id, b)
		if err != nil {
			return fmt.Errorf("a reservation in Cassandra: %w", err)
		}
		return f(&v)
	})
}

// each calls f with every row of all buckets: a key and a value.
func (r *rows) each(ctx context.Context, cql string, f func(key, value []byte) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(bucketsAt)
	var mu sync.Mutex
	for bucket := range buckets {
		g.Go(func() error {
			return r.Query(ctx, "read counters", cassandrastore.Statement{CQL: cql, Args: r.of(bucket)}, rowsAtOnce, func(scan func(dest ...any) error) (bool, error) {
				var key, value []byte
				if err := scan(&key, &value); err != nil {
					return false, err
				}
				mu.Lock()
				defer mu.Unlock()
				return true, f(key, value)
			})
		})
	}
	return g.Wait()
}

// windows calls f with the parts of the windows of a size, of buckets that start in from <= start < to, in order.
func (r *rows) windows(ctx context.Context, life uint64, size time.Duration, from, to int64, f func(w *counter.WindowPart)) error {
	q := cassandrastore.Statement{
		CQL:  "SELECT start, record, sum FROM counter_windows_1" + ofLife + " AND seconds = ? AND start >= ? AND start < ?",
		Args: r.of(int64(life), int64(size/time.Second), from, to),
	}
	return r.Query(ctx, "read windows", q, rowsAtOnce, func(scan func(dest ...any) error) (bool, error) {
		w := counter.WindowPart{ID: life, Size: size}
		var record int64
		var sum []byte
		if err := scan(&w.Start, &record, &sum); err != nil {
			return false, err
		}
		var err error
		if w.Bucket, err = rowcodec.DecodeWindow(sum); err != nil {
			return false, fmt.Errorf("a window in Cassandra: %w", err)
		}
		w.At = wal.Offset(record)
		f(&w)
		return true, nil
	})
}
