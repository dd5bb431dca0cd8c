package delivery

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// WriteOutcome is what became of one message of WriteAll; Err is as of Write.
type WriteOutcome struct {
	Written
	Err error
}

// NonceOf is the nonce of message i of a batch that has a nonce.
func NonceOf(batch wal.Nonce, i int) (n wal.Nonce) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint32(append([]byte("message of a batch\x00"), batch[:]...), uint32(i)))
	copy(n[:], sum[:])
	return n
}

// WriteAll is Write of several messages, which share a call to the log. Those of one key are appended in their order. Each has
// an outcome of its own.
func (db *DB) WriteAll(ctx context.Context, ms []*Message) []WriteOutcome {
	opts := db.options()
	w := &batch{db: db, out: make([]WriteOutcome, len(ms)), recs: make([]*wal.Record, len(ms))}
	asks := make([]consumers.Asking[TokenEntry], 0, len(ms))
	of := make([]int, 0, len(ms))
	for i, m := range ms {
		o := &w.out[i]
		var ask consumers.Asking[TokenEntry]
		if o.Written, ask, w.recs[i], o.Err = db.prepare(ctx, m, &opts); o.Err == nil {
			asks, of = append(asks, ask), append(of, i)
		}
	}
	// It waits for no copy of one message while it holds others: two batches would wait for each other.
	db.ClaimAll(ctx, asks, &opts, false)
	var later []int
	for k := range asks {
		if !w.claimed(of[k], &asks[k]) {
			later = append(later, of[k])
		}
	}
	w.append(ctx)
	for _, i := range later { // a copy is on its way: it may be one of this batch
		w.out[i].Written, w.out[i].Err = db.Write(ctx, ms[i])
	}
	return w.out
}

// batch is one WriteAll on its way.
type batch struct {
	db   *DB
	out  []WriteOutcome
	recs []*wal.Record
	as   []wal.Appending
	of   []int // the message of each
}

// claimed takes what became of the claim of message i. It is false where another copy is on its way.
func (w *batch) claimed(i int, a *consumers.Asking[TokenEntry]) bool {
	o, c := &w.out[i], &a.Claim
	switch {
	case a.Err != nil:
		o.Err = openIf(a.Unknown, a.Err)
	case c.Own != nil:
		w.as = append(w.as, wal.Appending{Partition: o.Partition, Record: w.recs[i], Reservations: []*wal.Reservation{c.Own}, Weight: 1})
		w.of = append(w.of, i)
	default:
		return o.copyOf(w.db.Stream, c)
	}
	return true
}

func (w *batch) append(ctx context.Context) {
	if len(w.as) == 0 {
		return
	}
	w.db.Stream.AppendAll(ctx, w.as)
	for k := range w.as {
		a, o := &w.as[k], &w.out[w.of[k]]
		o.Offset, o.Err = a.Offset, a.Err
		o.Unsure = a.Err == nil && w.db.Stream.Unsure(a.Partition, a.Reservations[0])
	}
}

// openIf says of an error that an earlier copy may have been taken.
func openIf(unknown bool, err error) error {
	if unknown && !errors.Is(err, wal.ErrUnknown) {
		return fmt.Errorf("%w: %w", wal.ErrUnknown, err)
	}
	return err
}
