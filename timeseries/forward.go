package timeseries

import (
	"context"

	"github.com/headwater-db/headwater/wal"
)

// Forward makes the records of events that come from a log namespace, one for each partition that they touch; the
// caller sets their Origin and appends them. Nobody is asked whether they are copies: their place tells the applier
// (see wal.Source), which judges them by when their message was due. tok has a nonce; its time is made here. Errors:
// as Write, before the log.
func (db *DB) Forward(tok wal.Token, events []Event) ([]wal.Appending, error) {
	tok.GenerationTime = 0
	w, err := db.staging(tok, events)
	if err != nil {
		return nil, err
	}
	w.records()
	return w.as, nil
}

// Stage is Forward of events of a delivery.Group, whose token is complete. *RefusedError: one of them is outside the
// limits of the namespace now, and a group takes place whole.
func (db *DB) Stage(ctx context.Context, tok wal.Token, events []Event) ([]wal.Appending, error) {
	w, err := db.staging(tok, events)
	if err != nil {
		return nil, err
	}
	if w.judge(ctx); len(w.refused) > 0 {
		return nil, &RefusedError{w.refused[0]}
	}
	w.records()
	return w.as, nil
}

func (db *DB) staging(tok wal.Token, events []Event) (*writing, error) {
	opts := db.cfg.Options()
	if _, err := db.Complete(&tok, &opts.FrontOptions); err != nil {
		return nil, err
	}
	w := &writing{db: db, opts: opts, tok: tok, hash: hashOf(events)}
	w.split(events)
	return w, nil
}
