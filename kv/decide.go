package kv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"github.com/headwater-db/headwater/wal"
)

// Limits of what an applier takes. The gateway refuses less; these are the
// bounds of the store's key layout, for records that came another way.
const (
	MaxIDBytes  = 1024
	MaxKeyBytes = 1024
	// MaxValueBytes is the largest value of an upload.
	MaxValueBytes = 64 << 20
)

// place is where a call stands in the log.
type place struct {
	offset     wal.Offset
	logTime    int64
	acceptedAt int64
	settings   Settings
}

// errPoison marks what can never be applied, as opposed to what may pass.
var errPoison = errors.New("cannot be applied")

// errPanic makes the runner resume from what is committed.
var errPanic = errors.New("panic while applying")

// tryCall applies one call. poison says that it can never be applied; err that
// the store could not be asked, and nothing is known.
func (pa *partApplier) tryCall(ctx context.Context, c *Call, rec *wal.Record, index int, at place) (poison, err error) {
	ref := wal.Ref{Partition: pa.p, Offset: at.offset, Index: index}
	if p := pa.panicked[ref]; p != nil {
		return p, nil
	}
	defer func() {
		if r := recover(); r != nil {
			// The batch may hold a part of the call. It is given up, and on the way
			// back here the call is parked.
			pa.panicked[ref] = fmt.Errorf("panic: %v", r)
			err = fmt.Errorf("%w %s: %v", errPanic, ref, r)
		}
	}()
	if err := check(c); err != nil {
		return err, nil
	}
	tok, hash := c.Token, c.Hash
	if tok.IsZero() {
		tok, hash = rec.Token, rec.RequestHash
	}
	if tok.IsZero() {
		return pa.untokened(ctx, c, at)
	}
	window := at.settings.TokenWindow.Microseconds()
	if tok.GenerationTime < at.logTime-window {
		pa.a.stats.TooOld.Add(1)
		pa.refuse(c, index, at, "too_old", fmt.Sprintf("the token was generated %d us before the token window", at.logTime-window-tok.GenerationTime))
		return nil, nil
	}
	id := IdentityOf(c.Mutations, tok.Nonce)
	seen, ok := pa.pending[id]
	if !ok {
		if seen, ok, err = pa.a.cfg.Store.Token(ctx, pa.p, id); err != nil {
			return nil, err
		}
	}
	if ok && seen.LogTime >= at.logTime-window {
		if seen.Hash == hash {
			pa.a.stats.Duplicates.Add(1)
			return nil, nil
		}
		pa.a.stats.Conflicts.Add(1)
		pa.refuse(c, index, at, "token_conflict", "the token was used for another request before")
		return nil, nil
	}
	e := TokenEntry{ID: id, Hash: hash, Offset: at.offset, LogTime: at.logTime, AcceptedAt: at.acceptedAt, Time: tok.GenerationTime, Outcome: Applied}
	if ttl := at.settings.DefaultTTL; ttl != nil {
		e.DefaultTTL, e.HasDefaultTTL = ttl.Microseconds(), true
	}
	if err := pa.decide(ctx, c, &e, at); err != nil {
		if errors.Is(err, errPoison) {
			return err, nil
		}
		return nil, err
	}
	if e.Outcome == Applied {
		pa.effect(c, &e)
		pa.a.stats.Applied.Add(1)
	}
	pa.batch.SaveToken(&e)
	pa.pending[e.ID] = e
	return nil, nil
}

// check refuses what the store's layout cannot hold.
func check(c *Call) error {
	if len(c.Mutations) == 0 {
		return errors.New("a call without mutations")
	}
	for i := range c.Mutations {
		m := &c.Mutations[i]
		if len(m.ID) == 0 || len(m.ID) > MaxIDBytes {
			return fmt.Errorf("an id of %d bytes", len(m.ID))
		}
		for j := range m.Items {
			if len(m.Items[j].Key) > MaxKeyBytes {
				return fmt.Errorf("a key of %d bytes", len(m.Items[j].Key))
			}
		}
		for _, k := range m.Keys {
			if len(k) > MaxKeyBytes {
				return fmt.Errorf("a key of %d bytes", len(k))
			}
		}
		if len(m.Range.Start) > MaxKeyBytes+1 || len(m.Range.End) > MaxKeyBytes+1 {
			return errors.New("a range bound that is too long")
		}
	}
	return nil
}

// untokened applies the mutations whose place is their identity.
func (pa *partApplier) untokened(ctx context.Context, c *Call, at place) (poison, err error) {
	for i := range c.Mutations {
		m := &c.Mutations[i]
		switch m.Op {
		case OpChunk:
			u, ok, err := pa.upload(ctx, m.Upload.ID)
			if err != nil {
				return nil, err
			}
			if ok && !u.Committed && u.Expiry > at.logTime {
				pa.batch.SaveChunk(m.Upload.ID, m.Upload.Index, m.Upload.Data)
			}
		case OpAbortUpload:
			u, ok, err := pa.upload(ctx, m.Upload.ID)
			if err != nil {
				return nil, err
			}
			if ok && !u.Committed {
				pa.batch.DropUpload(m.Upload.ID)
				u.Expiry = 0 // for what follows in this batch
				pa.uploads[m.Upload.ID] = u
			}
		default:
			return fmt.Errorf("operation %d without a token", m.Op), nil
		}
	}
	return nil, nil
}

func (pa *partApplier) upload(ctx context.Context, id UploadID) (StoredUpload, bool, error) {
	if u, ok := pa.uploads[id]; ok {
		return u, true, nil
	}
	return pa.a.cfg.Store.Upload(ctx, pa.p, id)
}

// decide settles the conditions of a call and the uploads that it commits, and
// with them e.Outcome and e.Time.
func (pa *partApplier) decide(ctx context.Context, c *Call, e *TokenEntry, at place) error {
	flushed := false
	for i := range c.Mutations {
		m := &c.Mutations[i]
		if m.Condition.Kind == Always && m.Op != OpCommitUpload {
			continue
		}
		if !flushed {
			// The store must show everything before this record. The calls of this
			// record before this one are part of that.
			if err := pa.flush(ctx); err != nil {
				return err
			}
			flushed = true
		}
		if err := pa.condition(ctx, m, e, at); err != nil || e.Outcome != Applied {
			return err
		}
		if m.Op == OpCommitUpload {
			if err := pa.checkUpload(ctx, m, e, at); err != nil || e.Outcome != Applied {
				return err
			}
		}
	}
	return nil
}

// condition checks m's condition against every key that it names and raises
// e.Time above what it replaces, so that what is acknowledged is what readers
// see.
func (pa *partApplier) condition(ctx context.Context, m *Mutation, e *TokenEntry, at place) error {
	if m.Condition.Kind == Always {
		return nil
	}
	keys := m.Keys
	if len(m.Items) > 0 {
		keys = keys[:0:0]
		for i := range m.Items {
			keys = append(keys, m.Items[i].Key)
		}
	}
	if len(keys) == 0 || m.Condition.Kind == IfVersion && len(keys) != 1 {
		return fmt.Errorf("%w: a condition on %d keys", errPoison, len(keys))
	}
	for _, k := range keys {
		it, newest, found, err := pa.a.cfg.Store.Item(ctx, pa.p, m.ID, k, at.logTime)
		if err != nil {
			return err
		}
		holds := !found
		if m.Condition.Kind == IfVersion {
			holds = found && it.Version == m.Condition.Version
		}
		if !holds {
			e.Outcome = ConditionFailed
			if found {
				e.Current = it.Version
			}
			pa.a.stats.ConditionsFailed.Add(1)
			return nil
		}
		if newest != (wal.Version{}) && newest.Time >= e.Time {
			e.Time = newest.Time + 1
		}
	}
	return nil
}

// checkUpload verifies that an upload is whole.
func (pa *partApplier) checkUpload(ctx context.Context, m *Mutation, e *TokenEntry, at place) error {
	id := m.Upload.ID
	u, ok, err := pa.a.cfg.Store.Upload(ctx, pa.p, id)
	if err != nil {
		return err
	}
	if !ok || u.Committed || u.Expiry <= at.logTime || string(u.Record) != string(m.ID) || string(u.Key) != string(m.Items[0].Key) {
		e.Outcome = UploadUnknown
		return nil
	}
	sum, size := sha256.New(), int64(0)
	for i := range m.Upload.Chunks {
		n, err := pa.hashChunk(ctx, sum, id, i)
		if errors.Is(err, ErrNoChunk) {
			e.Outcome = UploadBroken
			return nil
		}
		if err != nil {
			return err
		}
		if size += n; size > MaxValueBytes {
			break
		}
	}
	if size != m.Upload.Size || [32]byte(sum.Sum(nil)) != m.Upload.SHA256 {
		e.Outcome = UploadBroken
	}
	return nil
}

func (pa *partApplier) hashChunk(ctx context.Context, sum hash.Hash, id UploadID, index int) (int64, error) {
	data, err := pa.a.cfg.Store.ReadChunk(ctx, pa.p, id, index)
	if err != nil {
		return 0, err
	}
	sum.Write(data)
	return int64(len(data)), nil
}

// effect writes what a call that holds does. Early mutations come first: they
// are older than the others, and a range that is deleted at once must not take
// the puts of its own group along.
func (pa *partApplier) effect(c *Call, e *TokenEntry) {
	before := pa.state.MaxTime
	for _, early := range [2]bool{true, false} {
		for i := range c.Mutations {
			if m := &c.Mutations[i]; m.Early == early {
				t := e.Time
				if early {
					t--
				}
				pa.mutate(m, t, e, t > before)
				pa.state.MaxTime = max(pa.state.MaxTime, t)
			}
		}
	}
}

// mutate writes one mutation with version time t. newest: nothing in the
// partition is as new.
func (pa *partApplier) mutate(m *Mutation, t int64, e *TokenEntry, newest bool) {
	switch m.Op {
	case OpPut:
		for i := range m.Items {
			it := &m.Items[i]
			pa.batch.Put(m.ID, itemVersion(t, it.Expiry, e.Offset), &StoredItem{
				Key: it.Key, Value: it.Value, Size: int64(len(it.Value)), Compression: it.Compression, ContentType: it.ContentType,
			})
		}
	case OpDeleteKeys:
		for _, k := range m.Keys {
			pa.batch.Put(m.ID, deleteVersion(t, e.Offset), &StoredItem{Key: k})
		}
	case OpDeleteRange:
		pa.batch.DeleteRange(m.ID, m.Range, deleteVersion(t, e.Offset), newest)
	case OpDeleteRecord:
		pa.batch.DeleteRecord(m.ID, deleteVersion(t, e.Offset), newest)
	case OpBeginUpload:
		it := &m.Items[0]
		u := StoredUpload{
			ID: m.Upload.ID, Record: m.ID, Key: it.Key, Expiry: m.Upload.Expiry, TTL: it.TTL,
			Compression: it.Compression, ContentType: it.ContentType,
		}
		pa.batch.SaveUpload(&u)
		u.Record = append([]byte(nil), u.Record...)
		u.Key = append([]byte(nil), u.Key...)
		pa.uploads[u.ID] = u
	case OpCommitUpload:
		it := &m.Items[0]
		v := itemVersion(t, it.Expiry, e.Offset)
		pa.batch.Put(m.ID, v, &StoredItem{
			Key: it.Key, Size: m.Upload.Size, Compression: it.Compression, ContentType: it.ContentType,
			Upload: m.Upload.ID, Chunks: m.Upload.Chunks, SHA256: m.Upload.SHA256,
		})
		pa.batch.SaveUpload(&StoredUpload{ID: m.Upload.ID, Record: m.ID, Key: it.Key, Committed: true, Version: v, Chunks: m.Upload.Chunks})
	case OpChunk, OpAbortUpload: // have no token; see untokened
	}
}

func itemVersion(t, expiry int64, o wal.Offset) wal.Version {
	if expiry != 0 {
		return wal.Version{Time: t, Class: wal.Expiring, Expiry: expiry, Offset: o}
	}
	return wal.Version{Time: t, Class: wal.Live, Offset: o}
}

func deleteVersion(t int64, o wal.Offset) wal.Version {
	return wal.Version{Time: t, Class: wal.Deleted, Offset: o}
}
