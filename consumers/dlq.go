package consumers

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// DeadLetterLog is the dead-letter topic of a namespace, one partition, with an
// index of it in memory. One process writes it. Safe for concurrent use.
type DeadLetterLog struct {
	log   wal.Log
	count func(reason string) // may be nil

	mu    sync.Mutex // guards what follows
	index map[wal.Ref]indexedLetter
	order []wal.Ref // by first appearance
}

type indexedLetter struct {
	letter DeadLetter // without wal.Record
	at     wal.Offset // of the entry that carries the record
}

// MaxDeadLetters bounds the index. Above it the oldest letters that are not
// parked are forgotten, and their entries trimmed when nothing older is parked.
const MaxDeadLetters = 100_000

// OpenDeadLetters reads the topic to its end. count is called for each letter
// that Put adds.
func OpenDeadLetters(ctx context.Context, log wal.Log, count func(reason string)) (*DeadLetterLog, error) {
	d := &DeadLetterLog{log: log, count: count, index: make(map[wal.Ref]indexedLetter)}
	b, err := log.Bounds(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("bounds of dead letters: %w", err)
	}
	if b.Start >= b.End {
		return d, nil
	}
	rd, err := log.Read(ctx, 0, b.Start)
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	for next := b.Start; next < b.End; {
		entries, err := rd.Next(ctx)
		if err != nil {
			return nil, joinClose(fmt.Errorf("read dead letters at %d: %w", next, err), rd)
		}
		for i := range entries {
			next = entries[i].Offset + 1
			if err := lettersOf(&entries[i], func(l *DeadLetter) { d.add(l, entries[i].Offset) }); err != nil {
				return nil, joinClose(fmt.Errorf("dead letter at %d: %w", entries[i].Offset, err), rd)
			}
		}
	}
	return d, rd.Close()
}

func joinClose(err error, rd wal.Reader) error {
	if cerr := rd.Close(); cerr != nil {
		return fmt.Errorf("%w; close: %w", err, cerr)
	}
	return err
}

// lettersOf calls f with each letter of an entry of a dead-letter topic, which it
// may keep until the entry goes; there is none in a barrier.
func lettersOf(e *wal.Entry, f func(*DeadLetter)) error {
	var r wal.Record
	if err := wal.DecodeRecord(e.Data, &r); err != nil {
		return err
	}
	if r.Kind == wal.KindBarrier {
		return nil
	}
	if r.Kind != wal.KindDeadLetter {
		return fmt.Errorf("%w dead letter: a record of kind %s", wal.ErrMalformed, r.Kind)
	}
	return decodeFields(r.Payload, func(field protowire.Number, _ uint64, b []byte) error {
		if field != fieldLetter {
			return fmt.Errorf("%w dead letter: unexpected field %d", wal.ErrMalformed, field)
		}
		var l DeadLetter
		if err := decodeLetter(b, &l); err != nil {
			return err
		}
		f(&l)
		return nil
	})
}

// add puts a letter into the index. The caller holds mu or is alone.
func (d *DeadLetterLog) add(l *DeadLetter, at wal.Offset) {
	cur, known := d.index[l.Ref]
	if !known {
		d.order = append(d.order, l.Ref)
		cur.at = at
	}
	if l.Record != nil {
		cur.at = at
	}
	cur.letter = *l
	cur.letter.Key, cur.letter.Record = bytes.Clone(l.Key), nil
	d.index[l.Ref] = cur
	for i := 0; len(d.order) > MaxDeadLetters && i < len(d.order); {
		if r := d.order[i]; d.index[r].letter.Disposition != Parked {
			delete(d.index, r)
			d.order = slices.Delete(d.order, i, i+1)
			continue
		}
		i++
	}
}

// maxPayload is what fits into a record of the topic.
const maxPayload = wal.MaxRecordBytes - 4096

// Put implements DeadLetters: one append, or several where the letters are too
// large for a record. A letter that is there already in the same state is not
// written again.
func (d *DeadLetterLog) Put(ctx context.Context, letters []DeadLetter) error {
	var payload []byte
	first := 0 // of those in payload
	for i := range letters {
		l := &letters[i]
		if d.has(l) {
			continue
		}
		size := len(payload)
		payload = appendLetter(payload, l)
		if len(payload)-size > maxPayload { // its ref still finds the record in the log
			small := *l
			small.Record = nil
			payload = appendLetter(payload[:size], &small)
		}
		if len(payload) > maxPayload && size > 0 {
			next := append([]byte(nil), payload[size:]...)
			if err := d.append(ctx, payload[:size], letters[first:i]); err != nil {
				return err
			}
			payload, first = next, i
		}
	}
	return d.append(ctx, payload, letters[first:])
}

func (d *DeadLetterLog) has(l *DeadLetter) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	cur, known := d.index[l.Ref]
	return known && cur.letter.Disposition == l.Disposition && cur.letter.Attempts == l.Attempts
}

func (d *DeadLetterLog) append(ctx context.Context, payload []byte, letters []DeadLetter) error {
	if len(payload) == 0 {
		return nil
	}
	rec := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindDeadLetter, Payload: payload})
	res := d.log.Append(ctx, wal.Sync, []wal.NewEntry{{Data: rec}})[0]
	if res.Err != nil {
		return fmt.Errorf("append dead letters: %w", res.Err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range letters {
		l := &letters[i]
		if cur, known := d.index[l.Ref]; known && cur.letter.Disposition == l.Disposition && cur.letter.Attempts == l.Attempts {
			continue
		} else if !known && d.count != nil {
			d.count(l.Reason)
		}
		d.add(l, res.Offset)
	}
	return nil
}

// List returns the letters that match, oldest first, without their records.
func (d *DeadLetterLog) List(match func(*DeadLetter) bool) []DeadLetter {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []DeadLetter
	for _, r := range d.order {
		if l := d.index[r].letter; match(&l) {
			out = append(out, l)
		}
	}
	return out
}

// Len is the number of letters.
func (d *DeadLetterLog) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.index)
}

// Record returns the bytes of the record that a letter is about, nil when the
// letter carries none or is not known.
func (d *DeadLetterLog) Record(ctx context.Context, ref wal.Ref) ([]byte, error) {
	d.mu.Lock()
	cur, known := d.index[ref]
	d.mu.Unlock()
	if !known {
		return nil, nil
	}
	var record []byte
	err := wal.ReadOne(ctx, d.log, 0, cur.at, func(e *wal.Entry) error {
		return lettersOf(e, func(l *DeadLetter) {
			if l.Ref == ref && l.Record != nil {
				record = bytes.Clone(l.Record)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read dead letter %s: %w", ref, err)
	}
	return record, nil
}
