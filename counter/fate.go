package counter

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// outcomes are the reasons of calls that were refused.
var outcomes = map[Outcome]string{
	Rejected: "bound", Overflow: "overflow", Insufficient: "insufficient", NoReservation: "no_reservation",
	ReservationEnded: "reservation_ended", TooMuch: "too_much", TooMany: "too_many_reservations",
}

// RefusedBy says why a call or an add had no effect by a decision that is this abstraction's own; "": it had.
func RefusedBy(d *consumers.Decision) (string, error) {
	switch d.What {
	case answered:
		var e TokenEntry
		err := decodeAnswer(d.Data, &e)
		return outcomes[e.Outcome], err
	case taken:
		out, _, _, err := decodeTaken(d.Data)
		return outcomes[out], err
	}
	return "", nil
}

// Fate returns what became of the call of a counter under a nonce; see
// consumers.Front.Fate. An AddCounts goes by the smallest of its counters in a
// partition, an add with a token of its own by its counter.
func (db *DB) Fate(ctx context.Context, name []byte, n wal.Nonce) (consumers.Fate, error) {
	return db.Front.Fate(ctx, name, n, func(e *TokenEntry) (string, wal.Offset) { return outcomes[e.Outcome], e.Offset }, TokenOf)
}

// TokenOf is the token of a call of a record, or of the add at index that has one of
// its own. index may be wal.WholeRecord.
func TokenOf(rec *wal.Record, index int) wal.Token {
	var c Call
	if rec.Kind != wal.KindCounter || index < 0 || DecodePayload(rec.Payload, &c) != nil || c.Op != OpAdd {
		return rec.Token
	}
	r := NewAddReader(c.Adds)
	for i, a := 0, (Add{}); i <= index; i++ {
		if ok, err := r.Next(&a); !ok || err != nil {
			return rec.Token
		}
		if i == index && !a.Token.IsZero() {
			return a.Token
		}
	}
	return rec.Token
}
