package clickhousecounter

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Events is a counter.EventStore: the rows of one store.
type Events struct{ rows *clickhousestore.Rows }

var _ counter.EventStore = (*Events)(nil)

// Open returns the events of the store in dir, which is made if it is not there. dataset is a name
// for people, in every row. It does not wait for ClickHouse, whose cluster has to have Table.
func Open(dir string, c *clickhousestore.Cluster, dataset string, partitions int) (*Events, error) {
	rows, _, err := clickhousestore.OpenRows(dir, c, Table, dataset, partitions)
	if err != nil {
		return nil, err
	}
	return &Events{rows}, nil
}

// LogEndsAt says where the log of a partition ends; see clickhousestore.Rows.
func (s *Events) LogEndsAt(p wal.Partition, end wal.Offset) { s.rows.LogEndsAt(p, end) }

// day is the span of log time whose events are freed together, microseconds.
const day = int64(24 * time.Hour / time.Microsecond)

// block is rows, column by column.
type block struct {
	slice, decided, delta, eventTime, logTime, acceptedAt []int64
	counter, nonce                                        []string
	life                                                  []uint64
	idx                                                   []uint32
	kind                                                  []uint8
	digest                                                *xxhash.Digest
}

func newBlock() *block { return &block{digest: xxhash.New()} }

func (b *block) add(name string, row *counter.EventRow, i int, e *counter.Event) error {
	if row.LogTime < 0 {
		return fmt.Errorf("%w: record %d was logged before 1970", wal.ErrCorrupt, row.Offset)
	}
	b.slice, b.decided, b.delta = append(b.slice, row.LogTime/day), append(b.decided, int64(row.Offset)), append(b.delta, e.Delta)
	b.eventTime, b.logTime, b.acceptedAt = append(b.eventTime, e.Time), append(b.logTime, row.LogTime), append(b.acceptedAt, row.AcceptedAt)
	b.counter, b.nonce = append(b.counter, name), append(b.nonce, string(row.Nonce[:]))
	b.life, b.idx, b.kind = append(b.life, e.ID), append(b.idx, uint32(i)), append(b.kind, uint8(e.Kind))
	var place [20]byte
	binary.BigEndian.PutUint64(place[:], uint64(row.Offset))
	binary.BigEndian.PutUint64(place[8:], e.ID)
	binary.BigEndian.PutUint32(place[16:], uint32(i))
	_, err := b.digest.Write(place[:])
	return err
}

// rowsOfBlock bounds a block: its columns are in memory, here and in the connection.
const rowsOfBlock = 50_000

// SaveEvents implements counter.EventStore. Blocks are written one after the other: a failure leaves the
// first ones there, which are copies when all of them are written again.
func (s *Events) SaveEvents(ctx context.Context, p wal.Partition, events *counter.EventBlock) error {
	b := newBlock()
	err := events.Each(func(name string, row *counter.EventRow, i int, e *counter.Event) error {
		if err := b.add(name, row, i, e); err != nil || len(b.life) < rowsOfBlock {
			return err
		}
		full := b
		b = newBlock()
		return s.insert(ctx, p, full)
	})
	if err != nil {
		return err
	}
	return s.insert(ctx, p, b)
}

func (s *Events) insert(ctx context.Context, p wal.Partition, b *block) error {
	n := len(b.life)
	if n == 0 {
		return nil
	}
	name := fmt.Sprintf("%d-%d-%d-%d-%016x", p, n, b.decided[0], b.decided[n-1], b.digest.Sum64())
	return s.rows.Insert(ctx, p, name, b.slice, b.counter, b.life, b.decided, b.idx, b.kind, b.delta, b.eventTime, b.logTime, b.acceptedAt, b.nonce)
}

// between is the condition of the rows of a partition of after < record <= upTo.
func (s *Events) between(q *clickhousestore.Statement, p wal.Partition, after, upTo wal.Offset) string {
	return " WHERE " + s.rows.Of(q, p) + " AND decided > " + clickhousestore.Number(after) + " AND decided <= " + clickhousestore.Number(upTo)
}

// place is where an event stands, above (0, 0), which is that of no event; clearing is that of an
// event that set its counter to 0.
const (
	place    = "(decided + 1, idx)"
	clearing = "if(kind = 1, " + place + ", (toInt64(0), toUInt32(0)))"
)

// SumEvents implements counter.EventStore.
func (s *Events) SumEvents(ctx context.Context, p wal.Partition, id uint64, after, upTo wal.Offset) (sum counter.Base, err error) {
	q := &clickhousestore.Statement{}
	where := s.between(q, p, after, upTo) + " AND life = " + strconv.FormatUint(id, 10)
	q.WriteString("WITH (SELECT max(" + clearing + ") FROM " + table + where + ") AS cleared " +
		"SELECT toInt64(count()), countIf(kind = 1) > 0, sum(delta) FROM (SELECT DISTINCT decided, idx, kind, delta FROM " + table + where +
		" AND " + place + " >= cleared)")
	err = s.rows.Query(ctx, "sum the events of a counter", q, nil, func(r clickhousestore.RowScanner) error {
		return r.Scan(&sum.Events, &sum.Cleared, &sum.Sum)
	})
	return sum, err
}

// BucketEvents implements counter.EventStore.
func (s *Events) BucketEvents(ctx context.Context, p wal.Partition, r *counter.BucketRequest, f func(start int64, b counter.Bucket)) error {
	q := &clickhousestore.Statement{}
	where := s.between(q, p, r.After, r.UpTo) + " AND life = " + strconv.FormatUint(r.ID, 10) +
		" AND kind != 1 AND event_time >= " + clickhousestore.Number(r.From) + " AND event_time < " + clickhousestore.Number(r.To)
	n := clickhousestore.Number(r.Size)
	q.WriteString("SELECT event_time - positiveModulo(event_time, " + n + ") AS start, toInt64(count()), toString(sum(toInt128(delta))) " +
		"FROM (SELECT DISTINCT decided, idx, event_time, delta FROM " + table + where + ") GROUP BY start")
	return s.rows.Query(ctx, "sum the events of a counter by time", q, nil, func(r clickhousestore.RowScanner) error {
		var start int64
		var text string
		var b counter.Bucket
		if err := r.Scan(&start, &b.Adds, &text); err != nil {
			return err
		}
		sum, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return fmt.Errorf("%w: a sum of %.64q", wal.ErrCorrupt, text)
		}
		b.Lo = new(big.Int).And(sum, new(big.Int).SetUint64(1<<64-1)).Uint64()
		b.Hi = new(big.Int).Rsh(sum, 64).Int64()
		f(start, b)
		return nil
	})
}

// FoldEvents implements counter.EventStore.
func (s *Events) FoldEvents(ctx context.Context, p wal.Partition, r *counter.FoldRequest) (counter.Folded, error) {
	f := counter.Folded{UpTo: wal.NoOffset, Bases: make(map[uint64]counter.Base)}
	n, last, err := s.foldable(ctx, p, r)
	if err != nil || n == 0 {
		return f, err
	}
	if n > int64(r.Limit) {
		f.More = true
		if last, err = s.cut(ctx, p, r, float64(r.Limit)/float64(n)); err != nil {
			return f, err
		}
	}
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT life, toInt64(count()), countIf(kind = 1) > 0, sumIf(delta, " + place + " > cleared) FROM (" +
		"SELECT life, decided, idx, kind, delta, max(" + clearing + ") OVER (PARTITION BY life) AS cleared FROM (" +
		"SELECT DISTINCT life, decided, idx, kind, delta FROM " + table + s.between(q, p, r.After, last) + ")) GROUP BY life")
	err = s.rows.Query(ctx, "fold events", q, nil, func(row clickhousestore.RowScanner) error {
		var life uint64
		var b counter.Base
		err := row.Scan(&life, &b.Events, &b.Cleared, &b.Sum)
		f.Bases[life] = b
		return err
	})
	f.UpTo = last
	return f, err
}

// mayFold is the condition of the rows that may be folded.
func (s *Events) mayFold(q *clickhousestore.Statement, p wal.Partition, r *counter.FoldRequest) string {
	return s.between(q, p, r.After, r.UpTo) + " AND log_time < " + clickhousestore.Number(r.Before)
}

// foldable is how many rows may be folded, copies counted, and the last record of them.
func (s *Events) foldable(ctx context.Context, p wal.Partition, r *counter.FoldRequest) (n int64, last wal.Offset, err error) {
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT toInt64(count()), max(decided) FROM " + table + s.mayFold(q, p, r))
	err = s.rows.Query(ctx, "look for events to fold", q, nil, func(row clickhousestore.RowScanner) error {
		return row.Scan(&n, (*int64)(&last))
	})
	return n, last, err
}

// cut is a record that has about a part of what may be folded up to it.
func (s *Events) cut(ctx context.Context, p wal.Partition, r *counter.FoldRequest, part float64) (at wal.Offset, err error) {
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT greatest(min(decided), toInt64(floor(quantile(" + strconv.FormatFloat(part, 'f', 9, 64) + ")(decided)))) FROM " + table +
		s.mayFold(q, p, r))
	err = s.rows.Query(ctx, "cut events to fold", q, nil, func(row clickhousestore.RowScanner) error { return row.Scan((*int64)(&at)) })
	return at, err
}

// DropEvents implements counter.EventStore: days that have nothing above o are dropped whole.
func (s *Events) DropEvents(ctx context.Context, p wal.Partition, o wal.Offset) error {
	q := &clickhousestore.Statement{}
	q.WriteString("SELECT slice FROM " + table + " WHERE " + s.rows.Of(q, p) + " GROUP BY slice HAVING max(decided) <= " + clickhousestore.Number(o))
	days, err := s.rows.Slices(ctx, "look for days that are folded", q)
	for _, x := range days {
		err = errors.Join(err, s.rows.DropPartition(ctx, p, x))
	}
	return err
}
