package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Owner is consumers.Owner of partitions that other processes hold; E is what the
// abstraction keeps of a token.
type Owner[E wal.Decided] struct {
	*Client
	// Entry reads what is remembered of a token.
	Entry func(wal.TokenID, *clusterv1.TokenEntry) (E, error)
}

// Wait implements consumers.Owner.
func (o *Owner[E]) Wait(ctx context.Context, p wal.Partition, at wal.Offset) error {
	return o.cfg.Progress.Wait(ctx, p, at)
}

// Token implements consumers.Owner.
func (o *Owner[E]) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (e E, known bool, err error) {
	return o.token(ctx, p, id, o.Ask)
}

func (o *Owner[E]) token(ctx context.Context, p wal.Partition, id wal.TokenID, ask func(context.Context, wal.Partition, *clusterv1.AskRequest) (*clusterv1.AskResponse, error)) (e E, known bool, err error) {
	resp, err := ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_Token{Token: &clusterv1.TokenQuestion{Id: id[:]}}})
	if err != nil || resp.GetToken() == nil {
		return e, false, err
	}
	e, err = o.Entry(id, resp.GetToken())
	return e, err == nil, err
}

// Parked implements consumers.Owner. It names no more than SoftParked records of a queue.
func (o *Owner[E]) Parked(ctx context.Context, p wal.Partition, key []byte) (q consumers.ParkedQueue, ok bool, err error) {
	if o.parts[p].parkedKeys.Load() == 0 {
		return q, false, nil
	}
	if known, err := o.parkedKeys(ctx, p); err != nil || known != nil && !known.has(key) {
		return q, false, err
	}
	resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_Parked{Parked: &clusterv1.ParkedQuestion{Key: key}}})
	if err != nil || resp.GetParked() == nil {
		return q, false, err
	}
	q, err = queueFrom(p, resp.GetParked())
	return q, err == nil, err
}

// maxKnownKeys bounds how many parked keys of a partition are remembered; where there are more, each is
// asked about.
const maxKnownKeys = 10_000

// parkedKeys are the keys of a partition that are parked, as of a version.
type parkedKeys struct {
	version uint64
	keys    map[string]bool // nil: too many
}

func (k *parkedKeys) has(key []byte) bool { return k.keys == nil || k.keys[string(key)] }

// parkedKeys are those that the owner told of last: a call of 10,000 adds does not ask 10,000 times.
func (o *Owner[E]) parkedKeys(ctx context.Context, p wal.Partition) (*parkedKeys, error) {
	q := &o.parts[p]
	version := q.parkedVersion.Load()
	if k := q.known.Load(); k != nil && k.version == version {
		return k, nil
	}
	k := &parkedKeys{version: version, keys: make(map[string]bool)}
	if q.parkedKeys.Load() > maxKnownKeys {
		k.keys = nil
	} else if err := o.ParkedHeads(ctx, p, func(one *consumers.ParkedQueue) { k.keys[string(one.Key)] = true }); err != nil {
		return nil, err
	}
	q.known.Store(k)
	return k, nil
}

// ParkedKeys implements consumers.Owner.
func (o *Owner[E]) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	q := &o.parts[p]
	return int(q.parkedKeys.Load()), wal.Offset(q.parkedLowest.Load()) - 1
}

// ParkedHeads calls do with the queue of each parked key of a partition, with its first
// record alone, by key.
func (o *Owner[E]) ParkedHeads(ctx context.Context, p wal.Partition, do func(*consumers.ParkedQueue)) error {
	if o.parts[p].parkedKeys.Load() == 0 {
		return nil
	}
	ask := &clusterv1.ParkedHeadsQuestion{}
	for {
		resp, err := o.Ask(ctx, p, &clusterv1.AskRequest{Question: &clusterv1.AskRequest_ParkedHeads{ParkedHeads: ask}})
		if err != nil {
			return err
		}
		heads := resp.GetParkedHeads()
		for _, m := range heads.GetQueues() {
			q, err := queueFrom(p, m)
			if err != nil {
				return err
			}
			do(&q)
			ask.Above, ask.HasAbove = m.GetKey(), true
		}
		if !heads.GetMore() || len(heads.GetQueues()) == 0 {
			return nil
		}
	}
}

// Tokens implements consumers.Owner: one question to each worker. One that could not be asked a moment
// ago is not asked again: a write goes on without it.
func (o *Owner[E]) Tokens(ctx context.Context, tokens []consumers.TokenAt) []consumers.Found[E] {
	out := make([]consumers.Found[E], len(tokens))
	byAddress := make(map[string][]int)
	for i, t := range tokens {
		claim, ok := o.cfg.Book.Holder(t.Partition)
		if !ok || claim.Address == "" || o.Away(t.Partition) || o.Silent(t.Partition) {
			out[i].Err = fmt.Errorf("partition %d of namespace %s: %w", t.Partition, o.cfg.Namespace, consumers.ErrOwnerAway)
			continue
		}
		byAddress[claim.Address] = append(byAddress[claim.Address], i)
	}
	soon, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var work sync.WaitGroup
	for address, index := range byAddress {
		work.Go(func() {
			err := o.tokensAt(soon, address, tokens, index, out)
			if err == nil {
				return
			}
			for _, i := range index { // each by itself: some may have moved
				f := &out[i]
				if soon.Err() == nil {
					f.Entry, f.Known, f.Err = o.token(soon, tokens[i].Partition, tokens[i].ID, o.askNow)
				}
				if soon.Err() != nil && ctx.Err() == nil && !f.Known {
					f.Err = o.isAway(tokens[i].Partition, fmt.Errorf("it did not answer within %v: %w", lookTimeout, err))
				}
			}
		})
	}
	work.Wait()
	return out
}

// lookTimeout is how long a write waits for what its token did before it goes on without.
const lookTimeout = 300 * time.Millisecond

// tokensAt asks the worker at an address for the tokens of an index.
func (o *Owner[E]) tokensAt(ctx context.Context, address string, tokens []consumers.TokenAt, index []int, out []consumers.Found[E]) error {
	conn, err := o.cfg.Peers.Conn(address)
	if err != nil {
		return err
	}
	inc := o.cfg.Info.Incarnation
	req := &clusterv1.TokensRequest{Namespace: o.cfg.Namespace, Incarnation: inc[:], Ids: make([]byte, 0, len(index)*len(wal.TokenID{}))}
	at := make(map[wal.Partition]uint32)
	for _, i := range index {
		p := tokens[i].Partition
		n, ok := at[p]
		if !ok {
			claim, _ := o.cfg.Book.Holder(p)
			n = uint32(len(req.Partitions))
			at[p] = n
			req.Partitions = append(req.Partitions, &clusterv1.Claimed{Partition: uint32(p), Epoch: int64(claim.Epoch), At: int64(o.cfg.Progress.Applied(p)) + 1})
		}
		req.Of, req.Ids = append(req.Of, n), append(req.Ids, tokens[i].ID[:]...)
	}
	resp, err := clusterv1.NewOwnerServiceClient(conn).Tokens(ctx, req)
	if err != nil {
		return err
	}
	for _, m := range resp.GetPartitions() {
		o.note(m)
	}
	if len(resp.GetKnown()) != len(resp.GetEntries()) {
		return fmt.Errorf("%w answer: %d tokens and %d entries", wal.ErrMalformed, len(resp.GetKnown()), len(resp.GetEntries()))
	}
	for k, n := range resp.GetKnown() {
		if int(n) >= len(index) {
			return fmt.Errorf("%w answer: token %d of %d", wal.ErrMalformed, n, len(index))
		}
		i := index[n]
		if out[i].Entry, err = o.Entry(tokens[i].ID, resp.GetEntries()[k]); err != nil {
			return err
		}
		out[i].Known = true
	}
	return nil
}
