package kvtest

import (
	"bytes"
	"maps"
	"slices"
	"sort"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// Model is a kv.Store in the plainest form: it keeps every write that won and
// every delete there was, and finds answers by looking at all of them. It has no
// pages, no sweep and no concurrency.
type Model struct {
	parts map[wal.Partition]*modelPartition
}

type modelPartition struct {
	state   kv.State
	records map[string]*modelRecord
	tokens  map[wal.TokenID]kv.TokenEntry
	uploads map[kv.UploadID]kv.StoredUpload
	chunks  map[kv.UploadID]map[int][]byte
}

type modelRecord struct {
	items   map[string]kv.StoredItem
	deletes []modelDelete
}

type modelDelete struct {
	within  kv.Range
	version wal.Version
}

// NewModel returns an empty store.
func NewModel() *Model { return &Model{parts: make(map[wal.Partition]*modelPartition)} }

func (m *Model) partition(p wal.Partition) *modelPartition {
	mp := m.parts[p]
	if mp == nil {
		mp = &modelPartition{
			state:   kv.State{Applied: wal.NoOffset},
			records: make(map[string]*modelRecord),
			tokens:  make(map[wal.TokenID]kv.TokenEntry),
			uploads: make(map[kv.UploadID]kv.StoredUpload),
			chunks:  make(map[kv.UploadID]map[int][]byte),
		}
		m.parts[p] = mp
	}
	return mp
}

func (mp *modelPartition) record(id []byte) *modelRecord {
	r := mp.records[string(id)]
	if r == nil {
		r = &modelRecord{items: make(map[string]kv.StoredItem)}
		mp.records[string(id)] = r
	}
	return r
}

// Clone returns a copy that goes its own way.
func (m *Model) Clone() *Model {
	c := NewModel()
	for p, mp := range m.parts {
		cp := c.partition(p)
		cp.state = mp.state
		for id, r := range mp.records {
			cp.records[id] = &modelRecord{items: maps.Clone(r.items), deletes: slices.Clone(r.deletes)}
		}
		cp.tokens, cp.uploads = maps.Clone(mp.tokens), maps.Clone(mp.uploads)
		for id, chunks := range mp.chunks {
			cp.chunks[id] = maps.Clone(chunks)
		}
	}
	return c
}

// Put is kv.Batch.Put.
func (m *Model) Put(p wal.Partition, id []byte, v wal.Version, it *kv.StoredItem) {
	r := m.partition(p).record(id)
	if old, ok := r.items[string(it.Key)]; ok && v.Compare(old.Version) < 0 {
		return
	}
	n := *it
	n.Key, n.Value, n.Version = bytes.Clone(it.Key), bytes.Clone(it.Value), v
	if it.Upload == (kv.UploadID{}) {
		n.Size = int64(len(it.Value))
	}
	r.items[string(it.Key)] = n
}

// DeleteRange is kv.Batch.DeleteRange.
func (m *Model) DeleteRange(p wal.Partition, id []byte, within kv.Range, v wal.Version) {
	r := m.partition(p).record(id)
	within.Start, within.End = bytes.Clone(within.Start), bytes.Clone(within.End)
	r.deletes = append(r.deletes, modelDelete{within, v})
}

// DeleteRecord is kv.Batch.DeleteRecord.
func (m *Model) DeleteRecord(p wal.Partition, id []byte, v wal.Version) {
	m.DeleteRange(p, id, kv.Range{Open: true}, v)
}

// SaveToken is kv.Batch.SaveToken.
func (m *Model) SaveToken(p wal.Partition, e *kv.TokenEntry) { m.partition(p).tokens[e.ID] = *e }

// SaveUpload is kv.Batch.SaveUpload.
func (m *Model) SaveUpload(p wal.Partition, u *kv.StoredUpload) {
	m.partition(p).uploads[u.ID] = *u
}

// SaveChunk is kv.Batch.SaveChunk.
func (m *Model) SaveChunk(p wal.Partition, id kv.UploadID, index int, data []byte) {
	mp := m.partition(p)
	if mp.chunks[id] == nil {
		mp.chunks[id] = make(map[int][]byte)
	}
	mp.chunks[id][index] = bytes.Clone(data)
}

// DropUpload is kv.Batch.DropUpload.
func (m *Model) DropUpload(p wal.Partition, id kv.UploadID) {
	delete(m.partition(p).uploads, id)
	delete(m.partition(p).chunks, id)
}

// SetState is what kv.Batch.Commit saves.
func (m *Model) SetState(p wal.Partition, s kv.State) { m.partition(p).state = s }

// State is kv.Store.State, without the number of tokens.
func (m *Model) State(p wal.Partition) kv.State { return m.partition(p).state }

// covering returns the newest delete over a key, zero for none.
func (r *modelRecord) covering(key []byte) (v wal.Version) {
	for _, d := range r.deletes {
		if d.within.Contains(key) && d.version.Compare(v) > 0 {
			v = d.version
		}
	}
	return v
}

// Item is kv.Store.Item.
func (m *Model) Item(p wal.Partition, id, key []byte, now int64) (it kv.StoredItem, newest wal.Version, found bool) {
	r := m.partition(p).records[string(id)]
	if r == nil {
		return it, newest, false
	}
	newest = r.covering(key)
	w, ok := r.items[string(key)]
	if !ok || w.Version.Compare(newest) <= 0 {
		return it, newest, false
	}
	newest = w.Version
	if w.Version.Class == wal.Deleted || (w.Version.Expiry != 0 && w.Version.Expiry <= now) {
		return it, newest, false
	}
	return w, newest, true
}

// Get returns all that q asks for from its beginning, without regard to pages
// and limits of any kind but InlineLimit and OmitAbove.
func (m *Model) Get(q *kv.Query) []kv.StoredItem {
	var keys [][]byte
	if r := m.partition(q.Partition).records[string(q.ID)]; r != nil && !q.HasKeys {
		for k := range r.items {
			if !q.HasRange || q.Range.Contains([]byte(k)) {
				keys = append(keys, []byte(k))
			}
		}
		sort.Slice(keys, func(i, j int) bool { return bytes.Compare(keys[i], keys[j]) < 0 != q.Descending })
	} else if q.HasKeys {
		keys = q.Keys
	}
	var items []kv.StoredItem
	for _, k := range keys {
		if it, _, ok := m.Item(q.Partition, q.ID, k, q.Now); ok {
			items = append(items, m.withValue(q.Partition, it, q.OmitValues || q.OmitAbove != 0 && it.Size > q.OmitAbove, q.InlineLimit))
		}
	}
	return items
}

func (m *Model) withValue(p wal.Partition, it kv.StoredItem, omit bool, inlineLimit int64) kv.StoredItem {
	if omit {
		it.Value = nil
		return it
	}
	if it.Upload != (kv.UploadID{}) && it.Size <= inlineLimit {
		it.Value = make([]byte, 0, it.Size)
		for i := range it.Chunks {
			it.Value = append(it.Value, m.partition(p).chunks[it.Upload][i]...)
		}
	}
	return it
}

// Records returns the ids of the records of a partition that have anything a
// reader at now sees, sorted.
func (m *Model) Records(p wal.Partition, now int64) []string {
	var ids []string
	for id := range m.partition(p).records {
		if len(m.Get(&kv.Query{Partition: p, ID: []byte(id), Now: now, OmitValues: true})) > 0 {
			ids = append(ids, id)
		}
	}
	sort.Strings(ids)
	return ids
}

// Token is kv.Store.Token.
func (m *Model) Token(p wal.Partition, n wal.TokenID) (kv.TokenEntry, bool) {
	e, ok := m.partition(p).tokens[n]
	return e, ok
}

// Tokens returns all entries of a partition.
func (m *Model) Tokens(p wal.Partition) []kv.TokenEntry {
	return slices.Collect(maps.Values(m.partition(p).tokens))
}

// Upload is kv.Store.Upload.
func (m *Model) Upload(p wal.Partition, id kv.UploadID) (kv.StoredUpload, bool) {
	u, ok := m.partition(p).uploads[id]
	return u, ok
}
