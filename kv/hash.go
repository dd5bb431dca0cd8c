package kv

import "github.com/headwater-db/headwater/wal"

// requestForm is the version of the canonical form of a request, which its hash is
// made of: the mutations as they were sent, in their order, each
//
//	op (1 byte) | id blob | condition kind (1 byte) | [if version: 33 bytes version] | by op:
//	  put            number of items | items, each: value blob, and what every item has
//	  delete keys    number of keys | key blobs
//	  delete range   1 if it has no upper end, else 0 (1 byte) | start blob | end blob
//	  delete record
//	  begin upload   what every item has, of its one item
//	  commit upload  16 bytes upload | chunks | size | 32 bytes SHA-256
//
// where every item has: key blob | time to live | compression blob | content type
// blob. Numbers are varints, a blob is its length and its bytes, a time to live is
// microseconds, 0 for the namespace's.
//
// What follows from a request is no part of it: expiries, the order in which a group
// takes effect, the id of an upload that it begins, the item that a commit is for.
// Nor is its token.
const requestForm = 1

func hashOf(ms []Mutation) wal.Hash {
	return wal.HashOf(requestForm, func(x *wal.Hasher) {
		for i := range ms {
			hashMutation(x, &ms[i])
		}
	})
}

func hashMutation(x *wal.Hasher, m *Mutation) {
	x.Byte(byte(m.Op))
	x.Blob(m.ID)
	x.Byte(byte(m.Condition.Kind))
	if m.Condition.Kind == IfVersion {
		v := m.Condition.Version.Bytes()
		x.Bytes(v[:])
	}
	switch m.Op {
	case OpPut:
		x.Uint(uint64(len(m.Items)))
		for i := range m.Items {
			x.Blob(m.Items[i].Value)
			hashItem(x, &m.Items[i])
		}
	case OpDeleteKeys:
		x.Uint(uint64(len(m.Keys)))
		for _, k := range m.Keys {
			x.Blob(k)
		}
	case OpDeleteRange:
		if m.Range.Open {
			x.Byte(1)
		} else {
			x.Byte(0)
		}
		x.Blob(m.Range.Start)
		x.Blob(m.Range.End)
	case OpBeginUpload:
		hashItem(x, &m.Items[0])
	case OpCommitUpload:
		x.Bytes(m.Upload.ID[:])
		x.Uint(uint64(m.Upload.Chunks))
		x.Uint(uint64(m.Upload.Size))
		x.Bytes(m.Upload.SHA256[:])
	case OpDeleteRecord, OpChunk, OpAbortUpload: // the last two have no token
	}
}

func hashItem(x *wal.Hasher, it *Item) {
	x.Blob(it.Key)
	x.Uint(uint64(it.TTL))
	x.String(it.Compression)
	x.String(it.ContentType)
}
