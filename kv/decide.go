package kv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/headwater-db/headwater/consumers"
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

// decidedEntry is the exception of a call that was decided otherwise than its
// record says: its Data is the outcome. See appendDecided.
const decidedEntry = consumers.FirstOwn

// call decides one call and writes its effect. consumers.ErrPoison says that it
// can never be applied; any other error that the store could not be asked.
func (m *machine) call(ctx context.Context, r *consumers.Run, index int, c *Call, s *Settings) error {
	if err := check(c); err != nil {
		return fmt.Errorf("%w: %w", consumers.ErrPoison, err)
	}
	tok, hash := c.Token, c.Hash
	if tok.IsZero() {
		tok, hash = r.Record.Token, r.Record.RequestHash
	}
	if tok.IsZero() {
		return m.untokened(ctx, r, c)
	}
	id := IdentityOf(c.Mutations, tok.Nonce)
	window := s.TokenWindow.Microseconds()
	if v, err := r.Judge(ctx, index, c.Mutations[0].ID, tok, id, hash, window); err != nil || v != consumers.Fresh {
		return err
	}
	e := TokenEntry{
		ID: id, Hash: hash, Offset: r.Entry.Offset, LogTime: r.LogTime, AcceptedAt: r.AcceptedAt,
		Time: tok.GenerationTime, Outcome: Applied, DefaultTTL: s.DefaultTTL.Microseconds(),
	}
	if r.Follows() {
		if d := r.Decision(index, decidedEntry); d != nil {
			if err := decodeDecided(d.Data, &e); err != nil {
				return err
			}
		}
	} else if err := m.decide(ctx, r, c, &e); err != nil {
		return err
	}
	if e.Outcome != Applied || e.Time != tok.GenerationTime {
		r.Except(index, decidedEntry, appendDecided(nil, &e))
	}
	r.Changed()
	out, err := m.leftOut(ctx, r, c, tok.Nonce)
	switch {
	case err != nil:
		return err
	case out:
	case e.Outcome == Applied:
		m.effect(r, c, &e, tok.Nonce)
		r.CountApplied(1)
	default:
		r.CountRefused(1)
	}
	m.SaveToken(id, &e)
	return nil
}

// leftOut reports whether a call has no effect in this store because it, or the upload
// that it commits, was left out. An upload that begins has none that can be seen.
func (m *machine) leftOut(ctx context.Context, r *consumers.Run, c *Call, n wal.Nonce) (bool, error) {
	if !r.Partial() || c.Mutations[0].Op == OpBeginUpload {
		return false, nil
	}
	for i := range c.Mutations {
		if c.Mutations[i].Op != OpCommitUpload {
			continue
		}
		if _, ok, err := m.upload(ctx, c.Mutations[i].Upload.ID); err != nil || !ok {
			return true, err
		}
	}
	return r.Omitted(n), nil
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

// decided reports whether a call has something to decide beyond its token. Such a
// call is alone in its record, so that the store can be brought up to date before
// the record has changed anything.
func (c *Call) decided() bool {
	for i := range c.Mutations {
		if m := &c.Mutations[i]; m.Condition.Kind != Always || m.Op == OpCommitUpload {
			return true
		}
	}
	return false
}

// untokened applies the mutations whose place is their identity.
func (m *machine) untokened(ctx context.Context, r *consumers.Run, c *Call) error {
	for i := range c.Mutations {
		x := &c.Mutations[i]
		if x.Op != OpChunk && x.Op != OpAbortUpload {
			return fmt.Errorf("%w: operation %d without a token", consumers.ErrPoison, x.Op)
		}
		u, ok, err := m.upload(ctx, x.Upload.ID)
		if err != nil {
			return err
		}
		if !ok || u.Committed {
			continue
		}
		switch {
		case x.Op == OpAbortUpload:
			m.Open().DropUpload(x.Upload.ID)
			u.Expiry = 0 // for what follows in this batch
			m.uploads[x.Upload.ID] = u
		case u.Expiry > r.LogTime:
			m.Open().SaveChunk(x.Upload.ID, x.Upload.Index, x.Upload.Data)
		}
		r.Changed()
	}
	return nil
}

func (m *machine) upload(ctx context.Context, id UploadID) (StoredUpload, bool, error) {
	if u, ok := m.uploads[id]; ok {
		return u, true, nil
	}
	return m.a.cfg.Store.Upload(ctx, m.p, id)
}

// decide settles the conditions of a call and the uploads that it commits, and
// with them e.Outcome and e.Time.
func (m *machine) decide(ctx context.Context, r *consumers.Run, c *Call, e *TokenEntry) error {
	if !c.decided() {
		return nil
	}
	// The store must show everything before this record.
	if err := r.Settled(ctx); err != nil {
		return err
	}
	r.Looked()
	for i := range c.Mutations {
		x := &c.Mutations[i]
		if err := m.condition(ctx, x, e); err != nil || e.Outcome != Applied {
			return err
		}
		if x.Op == OpCommitUpload {
			if err := m.checkUpload(ctx, x, e); err != nil || e.Outcome != Applied {
				return err
			}
		}
	}
	return nil
}

// condition checks x's condition against every key that it names and raises
// e.Time above what it replaces, so that what is acknowledged is what readers
// see.
func (m *machine) condition(ctx context.Context, x *Mutation, e *TokenEntry) error {
	if x.Condition.Kind == Always {
		return nil
	}
	keys := x.Keys
	if len(x.Items) > 0 {
		keys = keys[:0:0]
		for i := range x.Items {
			keys = append(keys, x.Items[i].Key)
		}
	}
	if len(keys) == 0 || x.Condition.Kind == IfVersion && len(keys) != 1 {
		return fmt.Errorf("%w: a condition on %d keys", consumers.ErrPoison, len(keys))
	}
	for _, k := range keys {
		it, newest, found, err := m.a.cfg.Store.Item(ctx, m.p, x.ID, k, e.LogTime)
		if err != nil {
			return err
		}
		holds := !found
		if x.Condition.Kind == IfVersion {
			holds = found && it.Version == x.Condition.Version
		}
		if !holds {
			e.Outcome = ConditionFailed
			if found {
				e.Current = it.Version
			}
			return nil
		}
		if newest != (wal.Version{}) && newest.Time >= e.Time {
			e.Time = newest.Time + 1
		}
	}
	return nil
}

// checkUpload verifies that an upload is whole.
func (m *machine) checkUpload(ctx context.Context, x *Mutation, e *TokenEntry) error {
	id := x.Upload.ID
	u, ok, err := m.a.cfg.Store.Upload(ctx, m.p, id)
	if err != nil {
		return err
	}
	if !ok || u.Committed || u.Expiry <= e.LogTime || string(u.Record) != string(x.ID) || string(u.Key) != string(x.Items[0].Key) {
		e.Outcome = UploadUnknown
		return nil
	}
	sum, size := sha256.New(), int64(0)
	for i := range x.Upload.Chunks {
		n, err := m.hashChunk(ctx, sum, id, i)
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
	if size != x.Upload.Size || [32]byte(sum.Sum(nil)) != x.Upload.SHA256 {
		e.Outcome = UploadBroken
	}
	return nil
}

func (m *machine) hashChunk(ctx context.Context, sum hash.Hash, id UploadID, index int) (int64, error) {
	data, err := m.a.cfg.Store.ReadChunk(ctx, m.p, id, index)
	if err != nil {
		return 0, err
	}
	sum.Write(data)
	return int64(len(data)), nil
}

// effect writes what a call that holds does. Early mutations come first: they
// are older than the others, and a range that is deleted at once must not take
// the puts of its own group along.
func (m *machine) effect(r *consumers.Run, c *Call, e *TokenEntry, n wal.Nonce) {
	before := r.MaxTime()
	for _, early := range [2]bool{true, false} {
		for i := range c.Mutations {
			if x := &c.Mutations[i]; x.Early == early {
				t := e.Time
				if early {
					t--
				}
				m.mutate(x, t, n, t > before)
				r.Observe(t)
			}
		}
	}
}

// appendDecided writes how a call was decided: outcome (1), version time (8), and
// of a failed condition the version that it met.
func appendDecided(dst []byte, e *TokenEntry) []byte {
	dst = append(dst, byte(e.Outcome))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.Time))
	if e.Current != (wal.Version{}) {
		dst = wal.AppendVersion(dst, e.Current)
	}
	return dst
}

func decodeDecided(b []byte, e *TokenEntry) (err error) {
	if len(b) < 9 || len(b) > 9 && len(b) != 9+wal.VersionSize {
		return fmt.Errorf("%w: decision of %d bytes", wal.ErrCorrupt, len(b))
	}
	e.Outcome, e.Time = Outcome(b[0]), int64(binary.BigEndian.Uint64(b[1:]))
	if len(b) > 9 {
		if e.Current, err = wal.DecodeVersion(b[9:]); err != nil {
			return fmt.Errorf("%w: version of a decision", wal.ErrCorrupt)
		}
	}
	return nil
}

// mutate writes one mutation with version time t. newest: nothing in the
// partition is as new.
func (m *machine) mutate(x *Mutation, t int64, n wal.Nonce, newest bool) {
	b := m.Open()
	switch x.Op {
	case OpPut:
		for i := range x.Items {
			it := &x.Items[i]
			b.Put(x.ID, itemVersion(t, it.Expiry, n), &StoredItem{
				Key: it.Key, Value: it.Value, Size: int64(len(it.Value)), Compression: it.Compression, ContentType: it.ContentType,
			})
		}
	case OpDeleteKeys:
		for _, k := range x.Keys {
			b.Put(x.ID, deleteVersion(t, n), &StoredItem{Key: k})
		}
	case OpDeleteRange:
		b.DeleteRange(x.ID, x.Range, deleteVersion(t, n), newest)
	case OpDeleteRecord:
		b.DeleteRecord(x.ID, deleteVersion(t, n), newest)
	case OpBeginUpload:
		it := &x.Items[0]
		u := StoredUpload{
			ID: x.Upload.ID, Record: x.ID, Key: it.Key, Expiry: x.Upload.Expiry, TTL: it.TTL,
			Compression: it.Compression, ContentType: it.ContentType,
		}
		b.SaveUpload(&u)
		u.Record = append([]byte(nil), u.Record...)
		u.Key = append([]byte(nil), u.Key...)
		m.uploads[u.ID] = u
	case OpCommitUpload:
		it := &x.Items[0]
		v := itemVersion(t, it.Expiry, n)
		b.Put(x.ID, v, &StoredItem{
			Key: it.Key, Size: x.Upload.Size, Compression: it.Compression, ContentType: it.ContentType,
			Upload: x.Upload.ID, Chunks: x.Upload.Chunks, SHA256: x.Upload.SHA256,
		})
		b.SaveUpload(&StoredUpload{ID: x.Upload.ID, Record: x.ID, Key: it.Key, Committed: true, Version: v, Chunks: x.Upload.Chunks})
	case OpChunk, OpAbortUpload: // have no token; see untokened
	}
}

func itemVersion(t, expiry int64, n wal.Nonce) wal.Version {
	if expiry != 0 {
		return wal.Version{Time: t, Class: wal.Expiring, Expiry: expiry, Nonce: n}
	}
	return wal.Version{Time: t, Class: wal.Live, Nonce: n}
}

func deleteVersion(t int64, n wal.Nonce) wal.Version {
	return wal.Version{Time: t, Class: wal.Deleted, Nonce: n}
}
