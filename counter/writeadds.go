package counter

import (
	"cmp"
	"context"
	"errors"
	"math"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// AddCounts appends the adds, one record for each partition that they touch, all
// under tok or their own tokens. a is used up. It is retry-safe as a whole: a
// call that some partitions took and others did not is completed by sending it
// again with the same token. In a BestEffort namespace it returns when the adds
// are queued. Errors of Result.Err, beyond the log's: *DriftError, wal.ErrTokensFull,
// wal.ErrTokenReused (also *AddError of one add), *ParkedError.
func (db *DB) AddCounts(ctx context.Context, tok wal.Token, a *Adds) (res Result) {
	defer a.release()
	opts := db.cfg.Options()
	serverTime, err := db.Complete(&tok, &opts.FrontOptions)
	res.Token = tok
	if err == nil {
		err = db.checkParked(ctx, a)
	}
	if err == nil {
		err = db.checkOwn(a, &opts)
	}
	if err != nil {
		res.Err = err
		return res
	}
	x := addsCall{db: db, a: a, tok: tok, hash: a.form.Sum(), opts: &opts}
	if opts.Accuracy == BestEffort {
		return x.buffered(ctx)
	}
	x.run(ctx, &res)
	if serverTime && x.firstTime != 0 {
		res.Token.GenerationTime = x.firstTime
	}
	return res
}

// AddError says which add of a call an error is about.
type AddError struct {
	Index int
	Err   error
}

func (e *AddError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *AddError) Unwrap() error { return e.Err }

// checkParked refuses a call with a counter whose queue is nearly full. While
// nothing is parked it costs nothing.
func (db *DB) checkParked(ctx context.Context, a *Adds) error {
	for i := range a.parts {
		p := wal.Partition(i)
		if n, _ := db.Owner.ParkedKeys(p); n == 0 || a.parts[i].adds == 0 {
			continue
		}
		r := NewAddReader(a.parts[i].buf[2:])
		var add Add
		for {
			ok, err := r.Next(&add)
			if err != nil || !ok {
				break
			}
			if err := db.QueueFull(ctx, p, add.Counter); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkOwn refuses adds whose own token is from another time.
func (db *DB) checkOwn(a *Adds, opts *Options) error {
	now := db.Now()
	for i := range a.owned {
		if t := a.owned[i].token.GenerationTime; t != 0 {
			if err := wal.CheckDrift(t, now, opts.DriftPast, opts.DriftFuture); err != nil {
				return &AddError{a.owned[i].index, err}
			}
		}
	}
	return nil
}

// addsCall is one AddCounts on its way.
type addsCall struct {
	db   *DB
	a    *Adds
	tok  wal.Token
	hash wal.Hash
	opts *Options

	as        []wal.Appending
	at        wal.Position
	dups      int   // partitions that had the call before
	ownDups   int   // adds that were taken before under their own tokens
	firstTime int64 // generation time of the first copy
}

func (x *addsCall) run(ctx context.Context, res *Result) {
	db := x.db
	if x.at, res.Err = db.Stream.MergeAfter(nil); res.Err != nil { // a position of this stream, covering nothing
		return
	}
	asks := make([]consumers.Asking[TokenEntry], 0, len(x.a.parts))
	for i := range x.a.parts {
		if x.a.parts[i].adds == 0 {
			continue
		}
		id := wal.CallIDOf(x.a.parts[i].routingKey(), x.tok.Nonce)
		asks = append(asks, consumers.Asking[TokenEntry]{TokenAt: consumers.TokenAt{Partition: wal.Partition(i), ID: id}, Generated: x.tok.GenerationTime, Hash: x.hash})
	}
	touched := len(asks)
	db.ClaimAll(ctx, asks, &x.opts.FrontOptions, true)
	for i := range asks {
		p, c := asks[i].Partition, &asks[i].Claim
		switch {
		case asks[i].Err != nil && res.Err == nil:
			res.Err, res.Unknown = asks[i].Err, asks[i].Unknown
		case c.Own != nil:
			x.as = append(x.as, wal.Appending{Partition: p, Record: x.record(int(p)), Reservations: []*wal.Reservation{c.Own}, Weight: x.a.parts[p].adds})
		case c.First != nil:
			res.Unsure = res.Unsure || db.Stream.Unsure(p, c.First)
			x.copyOf(p, c.First.Offset, c.First.Time)
		case c.Known != nil:
			x.copyOf(p, c.Known.Offset, c.Known.Time)
		}
	}
	if res.Err != nil {
		x.giveUp(res.Err)
		res.Unknown = res.Unknown || x.dups > 0
		return
	}
	if err := x.claimOwn(ctx); err != nil {
		x.giveUp(err)
		res.Err, res.Unknown = err, x.dups > 0
		return
	}
	if len(x.as) > 0 {
		db.Stream.AppendAll(ctx, x.as)
	}
	taken := x.dups
	for i := range x.as {
		switch err := x.as[i].Err; {
		case err == nil:
			taken++
			for _, r := range x.as[i].Reservations {
				res.Unsure = res.Unsure || db.Stream.Unsure(x.as[i].Partition, r)
			}
			x.cover(x.as[i].Partition, x.as[i].Offset)
		case res.Err == nil || errors.Is(err, wal.ErrUnknown):
			res.Err = err
		}
	}
	if res.Err != nil {
		// A part of the call may count: sending it again completes it.
		res.Unknown = taken > 0 || errors.Is(res.Err, wal.ErrUnknown)
		return
	}
	res.Duplicate = x.dups == touched || x.ownDups == x.a.n
	res.Position = x.position()
}

// copyOf notes that a partition had the call before, at o.
func (x *addsCall) copyOf(p wal.Partition, o wal.Offset, firstTime int64) {
	x.dups++
	x.firstTime = firstTime
	x.cover(p, o)
}

func (x *addsCall) record(part int) *wal.Record {
	p := &x.a.parts[part]
	return &wal.Record{
		RoutingKey: p.routingKey(), Kind: wal.KindCounter, Token: x.tok, RequestHash: x.hash, NamespaceVersion: x.opts.Version,
		AcceptedAt: x.db.Now().UnixMicro(), Payload: p.buf,
	}
}

func (x *addsCall) cover(p wal.Partition, o wal.Offset) {
	if x.at.Offsets == nil {
		x.at.Offsets = make(map[wal.Partition]wal.Offset, len(x.a.parts))
	}
	x.at.Offsets[p] = max(o, x.at.Offsets[p])
}

func (x *addsCall) position() string {
	if len(x.at.Offsets) == 1 {
		for p, o := range x.at.Offsets {
			return x.db.Stream.Position(p, o)
		}
	}
	return x.at.String()
}

// giveUp releases what was reserved and is not appended.
func (x *addsCall) giveUp(err error) {
	for i := range x.as {
		for _, r := range x.as[i].Reservations {
			x.db.Stream.Release(r, err)
		}
	}
	x.as = nil
}

// claimOwn reserves the adds' own tokens. It waits for nobody: an add whose token
// another copy holds goes into the log as well, where the second of them changes
// nothing; so calls that share tokens in another order cannot wait for each
// other.
func (x *addsCall) claimOwn(ctx context.Context) error {
	mine := make([]*wal.Reservation, 0, len(x.a.owned))
	looks := make([]consumers.Look, 0, len(x.a.owned))
	of := make([]int, 0, len(x.a.owned)) // index in owned, of each look
	for i := range x.a.owned {
		o := &x.a.owned[i]
		var r *wal.Reservation
		if own := x.appending(o.part); own != nil {
			first, owner, err := x.db.Stream.TryReserve(o.part, o.id, o.hash)
			if errors.Is(err, wal.ErrTokenUnsure) { // what holds it is in the log, and waits for nobody
				first, owner, err = x.db.Stream.Reserve(ctx, o.part, o.id, o.hash)
			}
			if err != nil {
				return &AddError{o.index, err}
			}
			if owner {
				r = first
				r.Time = cmp.Or(o.token.GenerationTime, x.tok.GenerationTime)
				own.Reservations = append(own.Reservations, r)
			} else if first.Done() && first.Wait(ctx) == nil {
				x.ownDups++ // acknowledged, and perhaps not applied yet
				continue
			}
		}
		mine, of = append(mine, r), append(of, i)
		looks = append(looks, consumers.Look{TokenAt: consumers.TokenAt{Partition: o.part, ID: o.id}, Hash: o.hash})
	}
	x.db.KnownAll(ctx, looks, &x.opts.FrontOptions)
	for k := range looks {
		switch err := looks[k].Err; {
		case errors.Is(err, wal.ErrTokenReused):
			return &AddError{x.a.owned[of[k]].index, err}
		case err != nil:
			return err
		case looks[k].Known:
			if x.ownDups++; mine[k] != nil {
				mine[k].Looked, mine[k].Asked = math.MaxInt64, true // no other can have come first since
			}
		case mine[k] != nil:
			mine[k].Looked, mine[k].Asked = looks[k].Looked, looks[k].Asked
		}
	}
	return nil
}

func (x *addsCall) appending(p wal.Partition) *wal.Appending {
	for i := range x.as {
		if x.as[i].Partition == p {
			return &x.as[i]
		}
	}
	return nil
}

// buffered queues the adds and does not wait. What is queued is lost when the
// process dies; a copy that follows the first is absorbed by the applier, but
// not known here.
func (x *addsCall) buffered(ctx context.Context) (res Result) {
	for i := range x.a.parts {
		if x.a.parts[i].adds > 0 {
			x.as = append(x.as, wal.Appending{Partition: wal.Partition(i), Record: x.record(i), Weight: x.a.parts[i].adds})
		}
	}
	x.db.Stream.AppendBuffered(ctx, x.as)
	res = Result{Token: x.tok, Buffered: true}
	queued := 0
	for i := range x.as {
		if err := x.as[i].Err; err != nil {
			res.Err = err
		} else {
			queued++
		}
	}
	res.Unknown = res.Err != nil && queued > 0
	return res
}
