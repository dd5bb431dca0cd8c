package consumers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/wal"
)

// letterEntry is an entry of a dead-letter topic.
type letterEntry struct {
	offset  wal.Offset
	payload []byte // nil for a barrier
}

// read calls f with the entries of from <= offset < to. errEnough of f ends it.
func (d *DeadLetterLog) read(ctx context.Context, from, to wal.Offset, f func(*letterEntry) error) (err error) {
	if from >= to {
		return nil
	}
	rd, err := d.log.Read(ctx, 0, from)
	if err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	defer func() {
		if cerr := rd.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close reader of dead letters: %w", cerr))
		}
	}()
	for {
		entries, err := rd.Next(ctx)
		if err != nil {
			return fmt.Errorf("read dead letters from %d on: %w", from, err)
		}
		for i := range entries {
			e := letterEntry{offset: entries[i].Offset}
			if e.offset >= to {
				return nil
			}
			err := e.decode(entries[i].Data)
			if err == nil {
				err = f(&e)
			}
			if errors.Is(err, errEnough) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("dead letters at %d: %w", e.offset, err)
			}
			if from = e.offset + 1; from == to {
				return nil
			}
		}
	}
}

func (e *letterEntry) decode(data []byte) error {
	var r wal.Record
	if err := wal.DecodeRecord(data, &r); err != nil {
		return err
	}
	switch r.Kind {
	case wal.KindDeadLetter:
		e.payload = r.Payload
	case wal.KindBarrier:
	default:
		return fmt.Errorf("%w dead letter: a record of kind %s", wal.ErrMalformed, r.Kind)
	}
	return nil
}

// tally returns the tally that an entry is, if it is one, or how many entries back
// the last one is, 0 where it does not say.
func (e *letterEntry) tally() (t tally, ok bool, behind wal.Offset, err error) {
	err = decodeFields(e.payload, func(field protowire.Number, number uint64, b []byte) (err error) {
		switch field {
		case fieldTally:
			t, err = decodeTally(b)
			if ok = true; t.offset == 0 || t.offset > e.offset { // of an older build
				t.offset = e.offset
			}
		case fieldBehind:
			behind = wal.Offset(number)
		}
		return err
	})
	return t, ok, behind, err
}

// tallyBefore returns the last tally below o that is in the topic, and where none
// is found, that of its start. An entry says where to look; where it does not, or
// it is wrong, what is between is read.
func (d *DeadLetterLog) tallyBefore(ctx context.Context, b *wal.Bounds, o wal.Offset) (last tally, found bool, err error) {
	o = min(o, b.End)
	if o <= b.Start {
		return tally{offset: b.Start}, false, nil
	}
	behind := wal.Offset(0)
	look := func(e *letterEntry) error {
		t, ok, n, err := e.tally()
		if behind = n; ok {
			last, found = t, true
		}
		return err
	}
	if err := d.read(ctx, o-1, o, look); err != nil || found {
		return last, found, err
	}
	if at := o - 1 - behind; behind > 0 && at >= b.Start {
		if err := d.read(ctx, at, at+1, look); err != nil || found {
			return last, found, err
		}
	}
	for n := wal.Offset(8); ; n *= 8 {
		from := max(o-n, b.Start)
		if err := d.read(ctx, from, o, look); err != nil || found {
			return last, found, err
		}
		if from == b.Start {
			return tally{offset: b.Start}, false, nil
		}
	}
}

// seek returns the last tally of which ok holds. It holds of the start, and of
// each that is before one of which it holds.
func (d *DeadLetterLog) seek(ctx context.Context, b *wal.Bounds, ok func(*tally) bool) (tally, error) {
	best := tally{offset: b.Start}
	for lo, hi := b.Start, b.End; lo < hi; {
		mid := lo + (hi-lo)/2
		t, _, err := d.tallyBefore(ctx, b, mid+1)
		switch {
		case err != nil:
			return tally{}, err
		case t.offset < lo:
			lo = mid + 1
		case ok(&t):
			best, lo = t, mid+1
		default:
			hi = t.offset
		}
	}
	return best, nil
}

// LetterPlace is a place between two letters of a topic.
type LetterPlace struct {
	Offset wal.Offset
	N      int // letters of the entry at Offset that come before
}

// LetterQuery is what List looks for.
type LetterQuery struct {
	From LetterPlace // zero: the start
	// Since, if not zero: no letter is wanted whose LogTime is lower.
	Since int64
	// Refs, if not empty: letters of others are not wanted.
	Refs []wal.Ref
	// Match says whether a letter is wanted, which is valid during the call.
	Match func(*DeadLetter) bool
	// Stands, where it is set, is asked in the same way about a letter that matches; it may ask
	// another process.
	Stands func(context.Context, *DeadLetter) (bool, error)
	// Limit, Bytes of Record and Key, and Scan, the bytes that are read, end the
	// page: it is cut where the next letter would pass one. A page has one letter at
	// least, unless Scan ends it.
	Limit       int
	Bytes, Scan int64
	// Enough, if not 0: the list ends behind so many letters.
	Enough int
	// Record, if not nil, returns the record of a letter that has none with it; nil
	// where there is none any more. Where it is nil, letters come without.
	Record func(context.Context, wal.Ref) ([]byte, error)
}

// clockSkew is how much earlier than a letter's LogTime the topic may say that
// it was appended: a partition with a clock further ahead is held.
const clockSkew = time.Hour

// List returns the letters that match, in the order that they were written, each
// once, from a place on. more is false when there are none behind next.
func (d *DeadLetterLog) List(ctx context.Context, q *LetterQuery) (letters []DeadLetter, next LetterPlace, more bool, err error) {
	for range 3 {
		letters, next, more, err = d.list(ctx, q)
		if !errors.Is(err, wal.ErrTrimmed) { // while it was read: it begins higher now
			break
		}
	}
	return letters, next, more, err
}

func (d *DeadLetterLog) list(ctx context.Context, q *LetterQuery) (letters []DeadLetter, next LetterPlace, more bool, err error) {
	b, err := d.log.Bounds(ctx, 0)
	if err != nil {
		return nil, next, false, fmt.Errorf("bounds of dead letters: %w", err)
	}
	from, err := d.begin(ctx, &b, q)
	if err != nil {
		return nil, next, false, err
	}
	t, _, err := d.tallyBefore(ctx, &b, from.Offset+1)
	if err != nil {
		return nil, next, false, err
	}
	t = t.clone()
	var bytesRead, bytesKept int64
	stop := func(o wal.Offset, n int) error {
		next, more = LetterPlace{o, n}, true
		return errEnough
	}
	err = d.read(ctx, t.offset, b.End, func(e *letterEntry) error {
		if e.offset < from.Offset {
			return t.fold(e, nil)
		}
		if bytesRead > 0 && bytesRead+int64(len(e.payload)) > q.Scan {
			return stop(e.offset, 0)
		}
		bytesRead += int64(len(e.payload))
		var end error
		err := t.fold(e, func(l *DeadLetter, n int, copied bool) bool {
			if copied || e.offset == from.Offset && n < from.N || !q.Match(l) {
				return true
			}
			if q.Stands != nil {
				var stands bool
				if stands, end = q.Stands(ctx, l); end != nil || !stands {
					return end == nil
				}
			}
			if l.Record, end = q.record(ctx, l); end != nil {
				return false
			}
			size := int64(len(l.Record) + len(l.Key))
			if len(letters) == q.Limit || len(letters) > 0 && bytesKept+size > q.Bytes {
				end = stop(e.offset, n)
				return false
			}
			bytesKept += size
			l.Key, l.Record = bytes.Clone(l.Key), bytes.Clone(l.Record)
			letters = append(letters, *l)
			if len(letters) == q.Enough {
				end = errEnough
			}
			return end == nil
		})
		if end != nil {
			return end
		}
		return err
	})
	return letters, next, more, err
}

func (q *LetterQuery) record(ctx context.Context, l *DeadLetter) ([]byte, error) {
	switch {
	case q.Record == nil:
		return nil, nil
	case l.Record != nil:
		return l.Record, nil
	}
	return q.Record(ctx, l.Ref)
}

// begin says where a list begins: at its place, and a first page where there can
// be something that is wanted.
func (d *DeadLetterLog) begin(ctx context.Context, b *wal.Bounds, q *LetterQuery) (LetterPlace, error) {
	from := q.From
	if from == (LetterPlace{}) {
		if q.Since > 0 {
			o, err := d.log.OffsetAt(ctx, 0, q.Since-clockSkew.Microseconds())
			if err != nil {
				return from, fmt.Errorf("offset of dead letters: %w", err)
			}
			from.Offset = o
		}
		if len(q.Refs) > 0 {
			lowest := make(map[wal.Partition]wal.Offset)
			for _, r := range q.Refs {
				if o, ok := lowest[r.Partition]; !ok || r.Offset < o {
					lowest[r.Partition] = r.Offset
				}
			}
			t, err := d.seek(ctx, b, func(t *tally) bool { return t.below(lowest) })
			if err != nil {
				return from, err
			}
			from.Offset = max(from.Offset, t.offset)
		}
	}
	if from.Offset < b.Start {
		from = LetterPlace{Offset: b.Start}
	}
	return from, nil
}

// below reports whether everything of some partitions was decided below an offset.
func (t *tally) below(offsets map[wal.Partition]wal.Offset) bool {
	for k, last := range t.lanes {
		if o, ok := offsets[k.partition]; ok && last.at >= o {
			return false
		}
	}
	return true
}
