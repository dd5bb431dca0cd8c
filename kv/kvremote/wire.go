package kvremote

import (
	"bytes"
	"fmt"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

func entryTo(e *kv.TokenEntry) *clusterv1.TokenEntry {
	return &clusterv1.TokenEntry{
		Hash: e.Hash[:], Offset: int64(e.Offset), LogTime: e.LogTime, AcceptedAt: e.AcceptedAt, Time: e.Time,
		Outcome: uint32(e.Outcome), Current: wal.AppendVersion(nil, e.Current), DefaultTtl: e.DefaultTTL,
	}
}

func entryFrom(id wal.TokenID, m *clusterv1.TokenEntry) (e kv.TokenEntry, err error) {
	e = kv.TokenEntry{
		ID: id, Offset: wal.Offset(m.GetOffset()), LogTime: m.GetLogTime(), AcceptedAt: m.GetAcceptedAt(), Time: m.GetTime(),
		Outcome: kv.Outcome(m.GetOutcome()), DefaultTTL: m.GetDefaultTtl(),
	}
	if e.Hash, err = remote.HashFrom(m.GetHash()); err == nil {
		e.Current, err = wal.DecodeVersion(m.GetCurrent())
	}
	return e, err
}

func getTo(q *kv.Query) *clusterv1.KVGet {
	m := &clusterv1.KVGet{
		Id: q.ID, Keys: q.Keys, HasKeys: q.HasKeys, Descending: q.Descending, After: q.After, HasAfter: q.HasAfter, AfterIndex: int64(q.AfterIndex),
		Now: q.Now, MaxBytes: int64(q.MaxBytes), ItemLimit: int64(q.ItemLimit), OmitValues: q.OmitValues, OmitAbove: q.OmitAbove,
		InlineLimit: q.InlineLimit, Deadline: remote.Left(q.Deadline),
	}
	if q.HasRange {
		m.Range = &clusterv1.KVRange{Start: q.Range.Start, End: q.Range.End, Open: q.Range.Open}
	}
	return m
}

func getFrom(p wal.Partition, m *clusterv1.KVGet) *kv.Query {
	q := &kv.Query{
		Partition: p, ID: m.GetId(), Keys: m.GetKeys(), HasKeys: m.GetHasKeys(), Descending: m.GetDescending(), After: m.GetAfter(), HasAfter: m.GetHasAfter(),
		AfterIndex: int(m.GetAfterIndex()), Now: m.GetNow(), MaxBytes: int(m.GetMaxBytes()), ItemLimit: int(m.GetItemLimit()), OmitValues: m.GetOmitValues(),
		OmitAbove: m.GetOmitAbove(), InlineLimit: m.GetInlineLimit(), Deadline: remote.DeadlineIn(m.GetDeadline()),
	}
	if r := m.GetRange(); r != nil {
		q.HasRange, q.Range = true, kv.Range{Start: r.GetStart(), End: r.GetEnd(), Open: r.GetOpen()}
	}
	return q
}

func scanTo(q *kv.ScanQuery) *clusterv1.KVScan {
	return &clusterv1.KVScan{
		HasAfter: q.HasAfter, AfterId: q.AfterID, AfterKey: q.AfterKey, Now: q.Now, MaxBytes: int64(q.MaxBytes), OmitValues: q.OmitValues,
		InlineLimit: q.InlineLimit, Share: q.Share.Nth, Shares: q.Share.Of, Deadline: remote.Left(q.Deadline),
	}
}

func scanFrom(p wal.Partition, m *clusterv1.KVScan) *kv.ScanQuery {
	return &kv.ScanQuery{
		Partition: p, HasAfter: m.GetHasAfter(), AfterID: m.GetAfterId(), AfterKey: m.GetAfterKey(), Now: m.GetNow(), MaxBytes: int(m.GetMaxBytes()),
		OmitValues: m.GetOmitValues(), InlineLimit: m.GetInlineLimit(), Share: kv.Share{Nth: m.GetShare(), Of: m.GetShares()}, Deadline: remote.DeadlineIn(m.GetDeadline()),
	}
}

func itemsTo(items []kv.StoredItem) []*clusterv1.StoredItem {
	all := make([]clusterv1.StoredItem, len(items))
	out := make([]*clusterv1.StoredItem, len(items))
	for i := range items {
		it, m := &items[i], &all[i]
		m.Key, m.Value, m.Version, m.Size = it.Key, it.Value, wal.AppendVersion(nil, it.Version), it.Size
		m.Compression, m.ContentType, m.Chunks = it.Compression, it.ContentType, int64(it.Chunks)
		if it.Upload != (kv.UploadID{}) {
			m.Upload, m.Sha256 = it.Upload[:], it.SHA256[:]
		}
		out[i] = m
	}
	return out
}

func itemsFrom(ms []*clusterv1.StoredItem) ([]kv.StoredItem, error) {
	if len(ms) == 0 {
		return nil, nil
	}
	items := make([]kv.StoredItem, len(ms))
	for i, m := range ms {
		it := &items[i]
		*it = kv.StoredItem{Key: m.GetKey(), Value: m.Value, Size: m.GetSize(), Compression: m.GetCompression(), ContentType: m.GetContentType(), Chunks: int(m.GetChunks())}
		var err error
		if it.Version, err = wal.DecodeVersion(m.GetVersion()); err != nil {
			return nil, err
		}
		if len(m.GetUpload()) > 0 {
			if it.Upload, err = remote.TokenIDFrom(m.GetUpload()); err != nil {
				return nil, err
			}
			if len(m.GetSha256()) != len(it.SHA256) {
				return nil, fmt.Errorf("%w item: a checksum of %d bytes", wal.ErrMalformed, len(m.GetSha256()))
			}
			copy(it.SHA256[:], m.GetSha256())
		}
	}
	return items, nil
}

func uploadTo(u *kv.StoredUpload) *clusterv1.Upload {
	return &clusterv1.Upload{
		Id: bytes.Clone(u.ID[:]), Record: u.Record, Key: u.Key, Expiry: u.Expiry, Ttl: u.TTL, Compression: u.Compression, ContentType: u.ContentType,
		Committed: u.Committed, Version: wal.AppendVersion(nil, u.Version), Chunks: int64(u.Chunks),
	}
}

func uploadFrom(m *clusterv1.Upload) (u kv.StoredUpload, err error) {
	u = kv.StoredUpload{
		Record: m.GetRecord(), Key: m.GetKey(), Expiry: m.GetExpiry(), TTL: m.GetTtl(), Compression: m.GetCompression(), ContentType: m.GetContentType(),
		Committed: m.GetCommitted(), Chunks: int(m.GetChunks()),
	}
	if u.ID, err = remote.TokenIDFrom(m.GetId()); err == nil {
		u.Version, err = wal.DecodeVersion(m.GetVersion())
	}
	return u, err
}
