package kv

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// UploadLease is how long an upload may take from begin to commit, by log time.
const UploadLease = time.Hour

// Request is one call on its way in: mutations of one partition under one token.
// The shape has been checked by the gateway; what is checked here is what only
// the namespace knows.
type Request struct {
	// Token with a zero Nonce is made by the server; with a zero GenerationTime
	// the server gives it one.
	Token     wal.Token
	Mutations []Mutation

	id         wal.TokenID
	hash       wal.Hash
	part       wal.Partition
	serverTime bool
	r          *wal.Reservation
}

// Result is what became of a Request.
type Result struct {
	Token     wal.Token
	ID        wal.TokenID // what is named after the write is named after it
	Partition wal.Partition
	Offset    wal.Offset
	Position  string
	Duplicate bool
	Unsure    bool // whether it is a copy, or which one came first, is not known; see wal.Stream.Unsure
	// Versions of the items put, in the order of the request.
	Versions []wal.Version
	Err      error
	// Unknown: Err does not say whether the write took place; resend it with the
	// same token.
	Unknown bool
}

// maxCallBytes leaves room for a record's envelope within wal.MaxRecordBytes.
const maxCallBytes = wal.MaxRecordBytes - 16<<10

// Write does the requests, each by itself, and returns a Result for each.
// Requests of one partition share a record where they can.
func (db *DB) Write(ctx context.Context, reqs []*Request) []Result {
	results := make([]Result, len(reqs))
	opts := db.cfg.Options()
	if len(reqs) == 1 { // the hot path of a single put: no maps, no goroutine
		if db.prepare(ctx, reqs[0], &results[0], &opts) && db.reserve(ctx, reqs[0], &results[0], &opts) == owned {
			db.appendGroups(ctx, []group{{reqs[0].part, []int{0}}}, reqs, results, &opts)
		}
		if results[0].Err == nil {
			db.finish(ctx, reqs[0], &results[0], &opts)
		}
		return results
	}
	asks, of := make([]consumers.Asking[TokenEntry], 0, len(reqs)), make([]int, 0, len(reqs))
	for i, r := range reqs {
		if db.prepare(ctx, r, &results[i], &opts) {
			asks, of = append(asks, r.asking()), append(of, i)
		}
	}
	db.ClaimAll(ctx, asks, &opts.FrontOptions, false)
	ready := make(map[wal.Partition][]int)
	var busy []int
	for k, i := range of {
		r := reqs[i]
		switch db.reserved(r, &results[i], &opts, &asks[k]) {
		case owned:
			ready[r.part] = append(ready[r.part], i)
		case underWay:
			busy = append(busy, i)
		case settled:
		}
	}
	var groups []group
	for p, index := range ready {
		for len(index) > 0 {
			n := together(reqs, index)
			groups = append(groups, group{p, index[:n]})
			index = index[n:]
		}
	}
	if len(groups) > 0 {
		db.appendGroups(ctx, groups, reqs, results, &opts)
	}
	// Only now, when this call holds no token that it has not appended: the other
	// copy may be in this very call, or in one that waits for a token of this one.
	for _, i := range busy {
		if db.reserve(ctx, reqs[i], &results[i], &opts) == owned {
			db.appendGroups(ctx, []group{{reqs[i].part, []int{i}}}, reqs, results, &opts)
		}
	}
	for i, r := range reqs {
		if results[i].Err == nil {
			db.finish(ctx, r, &results[i], &opts)
		}
	}
	return results
}

// together returns how many of the requests at index fit one record: no record
// id twice, so that versions of one key never tie, and within the size of a
// record.
func together(reqs []*Request, index []int) int {
	ids := make(map[string]struct{}, len(index))
	size := 0
	for n, i := range index {
		if decided(reqs[i]) { // its conditions are judged by the store as of its record
			return max(n, 1)
		}
		for j := range reqs[i].Mutations {
			m := &reqs[i].Mutations[j]
			if _, twice := ids[string(m.ID)]; twice && n > 0 {
				return n
			}
			size += len(m.ID) + 64
			for k := range m.Items {
				size += len(m.Items[k].Key) + len(m.Items[k].Value) + 32
			}
		}
		if size > maxCallBytes/2 && n > 0 {
			return n
		}
		for j := range reqs[i].Mutations {
			ids[string(reqs[i].Mutations[j].ID)] = struct{}{}
		}
	}
	return len(index)
}

// prepare checks a request. False: res is final.
func (db *DB) prepare(ctx context.Context, r *Request, res *Result, opts *Options) bool {
	if err := db.accept(ctx, r, opts); err != nil {
		*res = Result{Token: r.Token, Err: err}
		return false
	}
	res.Token, res.ID = r.Token, r.id
	res.Partition, res.Offset = r.part, wal.NoOffset
	return true
}

// claimed is what became of the try to reserve a token.
type claimed uint8

const (
	settled  claimed = iota // res is final, or a duplicate whose first copy finish reads
	owned                   // the request is to be appended
	underWay                // another copy is about to be; not when it may wait for that
)

// asking is the token of a prepared request.
func (r *Request) asking() consumers.Asking[TokenEntry] {
	return consumers.Asking[TokenEntry]{TokenAt: consumers.TokenAt{Partition: r.part, ID: r.id}, Generated: r.Token.GenerationTime, Hash: r.hash}
}

// reserve reserves the token of a prepared request, and waits for another copy of it.
func (db *DB) reserve(ctx context.Context, r *Request, res *Result, opts *Options) claimed {
	a := r.asking()
	a.Claim, a.Unknown, a.Err = db.Claim(ctx, r.part, r.id, a.Generated, r.hash, &opts.FrontOptions, true)
	return db.reserved(r, res, opts, &a)
}

// reserved takes into account what became of the try to reserve a token.
func (db *DB) reserved(r *Request, res *Result, opts *Options, a *consumers.Asking[TokenEntry]) claimed {
	c := &a.Claim
	switch {
	case a.Err != nil:
		res.Err, res.Unknown = a.Err, a.Unknown
	case c.Own != nil:
		r.r = c.Own
		return owned
	case c.First != nil:
		r.r = c.First
		res.Duplicate, res.Offset = true, c.First.Offset
	case c.Known != nil:
		res.Duplicate = true
		db.answer(r, res, c.Known, opts)
	default:
		return underWay
	}
	return settled
}

// accept checks what only the namespace knows, and completes the token.
func (db *DB) accept(ctx context.Context, r *Request, opts *Options) error {
	if err := db.shape(r); err != nil {
		return err
	}
	made, err := db.Complete(&r.Token, &opts.FrontOptions)
	if err != nil {
		return err
	}
	r.serverTime = r.serverTime || made
	r.id = IdentityOf(r.Mutations, r.Token.Nonce)
	waits := decided(r)
	for i := range r.Mutations {
		id := r.Mutations[i].ID
		check := db.QueueFullUnlessKnown
		if waits {
			check = db.ParkedUnlessKnown
		}
		if err := check(ctx, r.part, id, r.id, r.hash, &opts.FrontOptions); err != nil {
			return err
		}
	}
	return nil
}

// shape finds the partition and the hash of a request, and orders its mutations.
func (db *DB) shape(r *Request) error {
	r.part = db.cfg.Stream.PartitionOf(r.Mutations[0].ID)
	for i := range r.Mutations {
		if m := &r.Mutations[i]; db.cfg.Stream.PartitionOf(m.ID) != r.part {
			return ErrAcrossPartitions
		}
	}
	r.hash = hashOf(r.Mutations) // as they were sent
	return normalise(r)
}

// decided reports whether the applier has something to decide beyond the token.
func decided(r *Request) bool {
	for i := range r.Mutations {
		if m := &r.Mutations[i]; m.Condition.Kind != Always || m.Op == OpCommitUpload || m.Op == OpBeginUpload {
			return true
		}
	}
	return false
}

// group is requests of one partition, by index, that share a record.
type group struct {
	p     wal.Partition
	index []int
}

// appendGroups appends one record for each group, all in one call to the log, and
// fills in the results of their requests.
func (db *DB) appendGroups(ctx context.Context, groups []group, reqs []*Request, results []Result, opts *Options) {
	accepted := db.cfg.Now().UnixMicro()
	as := make([]wal.Appending, len(groups))
	for i := range groups {
		rec, rs := db.record(reqs, groups[i].index, accepted, opts)
		as[i] = wal.Appending{Partition: groups[i].p, Record: rec, Reservations: rs, Weight: weight(reqs, groups[i].index)}
	}
	db.cfg.Stream.AppendAll(ctx, as)
	for i := range groups {
		for _, j := range groups[i].index {
			res := &results[j]
			res.Offset, res.Err, res.Unknown = as[i].Offset, as[i].Err, errors.Is(as[i].Err, wal.ErrUnknown)
		}
	}
}

// weight is how many items the requests at index touch, a range or a record as one.
func weight(reqs []*Request, index []int) (n int) {
	for _, i := range index {
		for j := range reqs[i].Mutations {
			m := &reqs[i].Mutations[j]
			n += max(1, len(m.Items)+len(m.Keys))
		}
	}
	return n
}

// record makes the record of the requests at index. That of one call carries the
// call's token itself.
func (db *DB) record(reqs []*Request, index []int, accepted int64, opts *Options) (*wal.Record, []*wal.Reservation) {
	rec := &wal.Record{Kind: wal.KindKV, NamespaceVersion: opts.Version, AcceptedAt: accepted}
	calls := make([]Call, 0, len(index))
	rs := make([]*wal.Reservation, 0, len(index))
	for _, i := range index {
		r := reqs[i]
		expire(r, accepted, opts)
		calls = append(calls, Call{Token: r.Token, Hash: r.hash, Mutations: r.Mutations})
		rs = append(rs, r.r)
	}
	first := reqs[index[0]]
	rec.RoutingKey = first.Mutations[0].ID
	if len(calls) == 1 {
		rec.Token, rec.RequestHash = first.Token, first.hash
		calls[0].Token, calls[0].Hash = wal.Token{}, wal.Hash{}
	}
	rec.Payload = AppendPayload(nil, &Payload{Calls: calls})
	return rec, rs
}

// expire turns times to live into expiries.
func expire(r *Request, accepted int64, opts *Options) {
	for i := range r.Mutations {
		m := &r.Mutations[i]
		if m.Op == OpBeginUpload {
			m.Upload.ID, m.Upload.Expiry = r.id, accepted+UploadLease.Microseconds()
		}
		for j := range m.Items {
			m.Items[j].Expiry = expiry(&m.Items[j], accepted, opts.DefaultTTL.Microseconds())
		}
	}
}

// expiry of an item, by the default time to live of when it was accepted. All are
// microseconds.
func expiry(it *Item, accepted, defaultTTL int64) int64 {
	ttl := it.TTL
	if ttl == 0 {
		ttl = defaultTTL
	}
	if ttl == 0 {
		return 0
	}
	return accepted + ttl
}

// finish completes the result of a request that is in the log: from the store
// where there was something to decide or where the first copy was taken under
// another configuration, else from what was appended.
func (db *DB) finish(ctx context.Context, r *Request, res *Result, opts *Options) {
	if res.Position != "" {
		return // answered from the store
	}
	if !decided(r) && r.r.Version == opts.Version {
		res.Unsure = db.cfg.Stream.Unsure(r.part, r.r)
		e := TokenEntry{Offset: res.Offset, AcceptedAt: r.r.AcceptedAt, Time: r.r.Time, Outcome: Applied, DefaultTTL: opts.DefaultTTL.Microseconds()}
		db.answer(r, res, &e, opts)
		return
	}
	ids := make([][]byte, len(r.Mutations))
	for i := range r.Mutations {
		ids[i] = r.Mutations[i].ID
	}
	e, err := db.Decision(ctx, r.part, res.Offset, r.id, r.hash, ids...)
	if err != nil {
		res.Err, res.Unknown = err, consumers.Undecided(err)
		return
	}
	res.Duplicate = res.Duplicate || e.Offset != res.Offset // another process took the first copy
	db.answer(r, res, e, opts)
}

// answer fills res in from what was decided, which is the same for the first
// copy of a request and for every other.
func (db *DB) answer(r *Request, res *Result, e *TokenEntry, opts *Options) {
	res.Token = r.Token
	if r.serverTime {
		res.Token.GenerationTime = e.Time // also of the first copy, whose condition may have raised it
	}
	res.Offset = e.Offset
	res.Position = db.cfg.Stream.Position(r.part, e.Offset)
	switch e.Outcome {
	case Applied:
		ttl := e.DefaultTTL // opts may be newer
		for i := range r.Mutations {
			m := &r.Mutations[i]
			if m.Op != OpPut && m.Op != OpCommitUpload {
				continue
			}
			for j := range m.Items {
				res.Versions = append(res.Versions, itemVersion(e.Time, expiry(&m.Items[j], e.AcceptedAt, ttl), r.Token.Nonce))
			}
		}
	case ConditionFailed:
		res.Err = &ConditionError{Current: e.Current}
	case UploadUnknown:
		res.Err = ErrUploadUnknown
	case UploadBroken:
		res.Err = ErrUploadBroken
	}
}
