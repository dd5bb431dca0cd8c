package counter

import (
	"cmp"
	"context"
	"errors"

	"github.com/headwater-db/headwater/wal"
)

// AddCount appends one add under tok. It is an AddCounts of one add whose own token
// is tok, so the same add in an AddCounts is a copy of it. add.Token is set.
// Otherwise it is as AddCounts, but for *AddError.
func (db *DB) AddCount(ctx context.Context, tok wal.Token, add *Add) (res Result) {
	opts := db.cfg.Options()
	serverTime, err := db.Complete(&tok, &opts.FrontOptions)
	res.Token = tok
	a := db.NewAdds()
	defer a.release()
	add.Token = tok
	a.Add(add)
	if err == nil {
		err = db.checkParked(ctx, a)
	}
	if err != nil {
		res.Err = err
		return res
	}
	// The record has no token: its one add has.
	x := addsCall{db: db, a: a, opts: &opts}
	if opts.Accuracy == BestEffort {
		res = x.buffered(ctx)
		res.Token = tok
		return res
	}
	own := &a.owned[0]
	c, unknown, err := db.Claim(ctx, own.part, own.id, tok.GenerationTime, own.hash, &opts.FrontOptions, true)
	if err != nil {
		res.Err, res.Unknown = err, unknown
		return res
	}
	if c.Own != nil {
		if _, err := db.Stream.Append(ctx, own.part, x.record(int(own.part)), c.Own); err != nil {
			res.Err, res.Unknown = err, errors.Is(err, wal.ErrUnknown)
			return res
		}
	}
	res.Duplicate = c.Own == nil
	var at wal.Offset
	var generated int64
	if c.Known != nil {
		at, generated = c.Known.Offset, c.Known.Time
	} else {
		first := cmp.Or(c.Own, c.First)
		res.Unsure = db.Stream.Unsure(own.part, first)
		at, generated = first.Offset, first.Time
	}
	if serverTime {
		res.Token.GenerationTime = generated
	}
	res.Position = db.Stream.Position(own.part, at)
	return res
}
