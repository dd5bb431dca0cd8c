package kv

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// outcomes are the reasons of calls that were refused.
var outcomes = map[Outcome]string{ConditionFailed: "condition_failed", UploadUnknown: "upload_unknown", UploadBroken: "upload_broken"}

// RefusedBy says why a call had no effect by a decision that is this abstraction's own; "": it had.
func RefusedBy(d *consumers.Decision) (string, error) {
	if d.What != decidedEntry {
		return "", nil
	}
	var e TokenEntry
	if err := decodeDecided(d.Data, &e); err != nil {
		return "", err
	}
	return outcomes[e.Outcome], nil
}

// Fate returns what became of the write of a record under a nonce; see
// consumers.Front.Fate.
func (db *DB) Fate(ctx context.Context, id []byte, n wal.Nonce) (consumers.Fate, error) {
	return db.Front.Fate(ctx, id, n, func(e *TokenEntry) (string, wal.Offset) { return outcomes[e.Outcome], e.Offset }, TokenOf)
}

// TokenOf is the token of a call of a record: its own, or that of the record. index may
// be wal.WholeRecord.
func TokenOf(rec *wal.Record, index int) wal.Token {
	var p Payload
	if rec.Kind == wal.KindKV && index >= 0 && DecodePayload(rec.Payload, &p) == nil && index < len(p.Calls) {
		if t := p.Calls[index].Token; !t.IsZero() {
			return t
		}
	}
	return rec.Token
}
