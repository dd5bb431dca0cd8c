package consumers

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// Refuse keeps the letter of a mutation that was decided against and that nobody
// may be waiting for, until Flush. Ref, Key, Reason, Detail and LogTime are the
// caller's; the rest is filled in.
func (k *Parking) Refuse(l DeadLetter) {
	l.Ref.Partition = k.cfg.Partition
	l.Disposition, l.Attempts, l.At = Refused, 1, l.Ref.Offset
	k.redrive.refused(&l)
	k.keep(&l)
}

// Later keeps the letter of a mutation that was decided before: the record at says what becomes of it after all.
func (k *Parking) Later(l DeadLetter, at wal.Offset) {
	l.Ref.Partition, l.At = k.cfg.Partition, at
	k.keep(&l)
}

func (k *Parking) keep(l *DeadLetter) { k.letters = append(k.letters, *l) }

// Forget takes back the letters that are not written of the record at o, which is
// not applied after all, and of what comes after it.
func (k *Parking) Forget(o wal.Offset) {
	k.letters = slices.DeleteFunc(k.letters, func(l DeadLetter) bool { return l.At >= o })
}

// Owes reports whether there are letters that are not written. Until Flush nothing
// that was applied may be saved or told.
func (k *Parking) Owes() bool { return len(k.letters) > 0 }

// Flush writes the letters that were kept since the last one, together. They are
// durable when it returns nil, and else still kept.
func (k *Parking) Flush(ctx context.Context) error {
	if len(k.letters) == 0 {
		return nil
	}
	slices.SortStableFunc(k.letters, func(a, b DeadLetter) int { return cmp.Or(cmp.Compare(a.At, b.At), a.Ref.Compare(b.Ref)) })
	if err := k.cfg.Letters.Put(ctx, k.letters); err != nil {
		return fmt.Errorf("write %d dead letters from %s on: %w", len(k.letters), k.letters[0].Ref, err)
	}
	clear(k.letters)
	k.letters = k.letters[:0]
	return nil
}
