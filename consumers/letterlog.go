package consumers

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/headwater-db/headwater/wal"
)

// DeadLetterLog is the dead-letter topic of a namespace: one partition of its own,
// in which the letters of a partition are written by one process at a time. What it keeps in memory does not grow with the
// letters. Safe for concurrent use.
type DeadLetterLog struct {
	log   wal.Log
	count func(reason string) // may be nil

	// writing is held while something is appended or trimmed.
	writing sync.Mutex
	// last is the offset of the last tally in the topic, NoOffset where there is none,
	// and bytesSince what stands behind it. Guarded by writing.
	last       wal.Offset
	bytesSince int64
	// doubt: the outcome of an append is not known. Guarded by writing.
	doubt bool

	mu  sync.Mutex // guards now
	now tally      // of all that is known to be in the topic
}

// A tally is written into the topic when there is so much behind the last: it is
// what has to be read to open the topic, and once more for each page of a list.
const (
	tallyEveryBytes   = 1 << 20
	tallyEveryEntries = 256
)

// OpenDeadLetters reads the end of the topic: what is behind its last tally.
// count is called for the first letter of each mutation that Put adds.
func OpenDeadLetters(ctx context.Context, log wal.Log, count func(reason string)) (*DeadLetterLog, error) {
	d := &DeadLetterLog{log: log, count: count}
	b, err := log.Bounds(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("bounds of dead letters: %w", err)
	}
	last, found, err := d.tallyBefore(ctx, &b, b.End)
	if err != nil {
		return nil, err
	}
	if d.last = wal.NoOffset; found {
		d.last = last.offset
	}
	d.now = last.clone()
	if err := d.readOn(ctx, b.End); err != nil {
		return nil, err
	}
	d.bytesSince = d.now.total.bytes - last.total.bytes
	return d, nil
}

// CatchUp takes into account what other processes have written.
func (d *DeadLetterLog) CatchUp(ctx context.Context) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	b, err := d.log.Bounds(ctx, 0)
	if err != nil {
		return fmt.Errorf("bounds of dead letters: %w", err)
	}
	return d.readOn(ctx, b.End)
}

// known returns a copy of what is known.
func (d *DeadLetterLog) known() tally {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now.clone()
}

func (d *DeadLetterLog) setKnown(t *tally) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = *t
}

// Len is how many mutations have letters in the topic. What became of a parked one
// is not counted again.
func (d *DeadLetterLog) Len() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now.total.first - d.now.left.first
}

// Trimmed is how many mutations had letters that have left the topic, ever; see
// Trim.
func (d *DeadLetterLog) Trimmed() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now.left.first
}

// readOn takes the entries below end into account that are not yet. The caller
// holds writing, or is alone.
func (d *DeadLetterLog) readOn(ctx context.Context, end wal.Offset) error {
	now := d.known()
	if now.offset >= end {
		return nil
	}
	if err := d.read(ctx, now.offset, end, func(e *letterEntry) error { return now.fold(e, nil) }); err != nil {
		return err
	}
	now.offset = end
	d.setKnown(&now)
	return nil
}

// maxPayload is what fits into a record of the topic.
const maxPayload = wal.MaxRecordBytes - 4096

// Put implements DeadLetters: one append, or several where the letters are too
// large for a record.
func (d *DeadLetterLog) Put(ctx context.Context, letters []DeadLetter) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.settle(ctx); err != nil {
		return err
	}
	now, given := d.known(), make(map[lane]place)
	var payload []byte
	for i := range letters {
		l := &letters[i]
		if last, ok := given[laneOf(l)]; l.At < l.Ref.Offset || ok && placeOf(l).compare(last) < 0 {
			return fmt.Errorf("dead letter %s, decided at %d, is out of order", l.Ref, l.At)
		}
		given[laneOf(l)] = placeOf(l)
		if now.add(l) {
			continue
		}
		size := len(payload)
		payload = appendLetter(payload, l)
		if len(payload)-size > maxPayload { // its ref still finds the record in the log
			small := *l
			small.Record = nil
			payload = appendLetter(payload[:size], &small)
		}
		if len(payload) > maxPayload {
			if err := d.append(ctx, payload[:size]); err != nil {
				return err
			}
			payload = payload[:copy(payload, payload[size:])]
		}
	}
	if len(payload) == 0 {
		return nil
	}
	return d.append(ctx, payload)
}

// settle finds out what became of an append whose outcome was not told. The caller
// holds writing.
func (d *DeadLetterLog) settle(ctx context.Context) error {
	if !d.doubt {
		return nil
	}
	o, err := d.log.Barrier(ctx, 0)
	if err != nil {
		return fmt.Errorf("find out about dead letters: %w", err)
	}
	if err := d.readOn(ctx, o+1); err != nil {
		return err
	}
	d.doubt = false
	return nil
}

// append writes letters as one entry, behind a tally where one is due. The caller
// holds writing.
func (d *DeadLetterLog) append(ctx context.Context, letters []byte) error {
	now := d.known()
	if since := now.offset - max(d.last, 0); d.bytesSince >= tallyEveryBytes || since >= tallyEveryEntries {
		return d.write(ctx, appendTally(nil, &now), appendNumber(letters, fieldBehind, 1))
	}
	if d.last != wal.NoOffset {
		letters = appendNumber(letters, fieldBehind, uint64(now.offset-d.last))
	}
	return d.write(ctx, letters)
}

// write appends entries, the last of which counts, and takes them into account.
// The caller holds writing.
func (d *DeadLetterLog) write(ctx context.Context, payloads ...[]byte) error {
	entries := make([]wal.NewEntry, len(payloads))
	for i, p := range payloads {
		entries[i].Data = wal.AppendRecord(nil, &wal.Record{Kind: wal.KindDeadLetter, Payload: p})
	}
	results := d.log.Append(ctx, wal.Sync, entries)
	for _, r := range results {
		d.doubt = d.doubt || errors.Is(r.Err, wal.ErrUnknown)
	}
	if err := results[len(results)-1].Err; err != nil {
		return fmt.Errorf("append dead letters: %w", err)
	}
	for i, r := range results {
		if r.Err != nil {
			continue // a tally is not needed
		}
		if err := d.wrote(ctx, &letterEntry{r.Offset, payloads[i]}); err != nil {
			d.doubt = true // it is found when the topic is read
			return err
		}
	}
	return nil
}

// wrote takes an entry into account that was appended.
func (d *DeadLetterLog) wrote(ctx context.Context, e *letterEntry) error {
	if err := d.readOn(ctx, e.offset); err != nil { // what others wrote in between, if any did
		return err
	}
	now := d.known()
	letters := false
	err := now.fold(e, func(l *DeadLetter, _ int, copied bool) bool {
		letters = true
		if !copied && isFirst(l) && d.count != nil {
			d.count(l.Reason)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("read back dead letters: %w", err)
	}
	d.setKnown(&now)
	if letters {
		d.bytesSince += int64(len(e.payload))
	} else {
		d.last, d.bytesSince = e.offset, 0
	}
	return nil
}

// Rewind forgets that there are letters of a partition that were decided at or
// above end. It is for a log that has lost its end: other records come to stand
// there, and their letters are no copies.
func (d *DeadLetterLog) Rewind(ctx context.Context, p wal.Partition, end wal.Offset) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.settle(ctx); err != nil {
		return err
	}
	t := d.known()
	t.reset = false
	for k, last := range t.lanes {
		if k.partition == p && last.at >= end {
			t.lanes[k] = place{end - 1, wal.Ref{Partition: p, Offset: math.MaxInt64, Index: wal.WholeRecord}}
			t.reset = true
		}
	}
	if !t.reset {
		return nil
	}
	return d.write(ctx, appendTally(nil, &t))
}
