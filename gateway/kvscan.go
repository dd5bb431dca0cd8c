package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// MaxShards bounds how finely a scan can be split.
const MaxShards = 4096

// scan is one page of a walk: partition by partition, those of its shard.
type scan struct {
	s       *KeyValue
	ns      *Namespace
	req     *headwaterv1.ScanItemsRequest
	point   *wal.ReadPoint
	form    itemForm
	binding []byte
	bytes   int
	room    itemRoom
	at      *cursor // nil: from the beginning
	seen    pagesSeen
	index   int
	of      int
}

func (s *KeyValue) newScan(ns *Namespace, req *headwaterv1.ScanItemsRequest) (*scan, error) {
	sc := &scan{s: s, ns: ns, req: req, of: 1}
	var err error
	if sc.bytes, err = pageBytes(req.GetPageSizeBytes(), req.PageSizeBytes != nil); err != nil {
		return nil, err
	}
	if sh := req.GetShard(); sh != nil {
		sc.index, sc.of = int(sh.GetIndex()), int(sh.GetOf())
		if sc.of < 1 || sc.of > MaxShards || sc.index < 0 || sc.index >= sc.of {
			return nil, apierrors.New(apierrors.BadShard, "shard %d of %d: index must be 0 to of - 1, and of 1 to %d", sc.index, sc.of, MaxShards)
		}
	}
	if sc.point, err = readPoint(ns, req.GetConsistency(), req.GetAfter()); err != nil {
		return nil, err
	}
	sc.form.omitValues = req.GetOmitValues()
	if sc.form.accept, err = accepted(req.GetAcceptCompression()); err != nil {
		return nil, err
	}
	inc := ns.Stream.Info().Incarnation
	sum := sha256.Sum256(fmt.Appendf(nil, "ScanItems %s %d/%d", inc, sc.index, sc.of))
	sc.binding = sum[:]
	if t := req.GetPageToken(); t != "" {
		if sc.at, err = s.pages.open(t, sc.binding); err != nil {
			return nil, err
		}
		sc.seen = sc.at.seen
	}
	return sc, nil
}

// mine reports whether the shard walks partition p: the partitions are dealt out
// to the shards, or, when there are more shards than partitions, each partition
// has several shards that split it by record.
func (sc *scan) mine(p, partitions int) bool {
	if sc.of <= partitions {
		return p%sc.of == sc.index
	}
	return sc.index%partitions == p
}

// share splits a partition between the shards that walk it.
func (sc *scan) share(partitions int) kv.Share {
	if sc.of <= partitions {
		return kv.Share{}
	}
	p := sc.index % partitions
	return kv.Share{Nth: uint64(sc.index / partitions), Of: uint64((sc.of - p + partitions - 1) / partitions)}
}

func (sc *scan) run(ctx context.Context) (*headwaterv1.ScanItemsResponse, error) {
	partitions := sc.ns.Stream.Info().Partitions
	out := &headwaterv1.ScanItemsResponse{}
	first := 0
	if sc.at != nil {
		first = int(sc.at.partition)
	}
	sc.room.bytes = sc.bytes
	for p := first; p < partitions; p++ {
		if !sc.mine(p, partitions) {
			continue
		}
		left := sc.bytes - sc.room.counted
		q := &kv.ScanQuery{Partition: wal.Partition(p), MaxBytes: left, OmitValues: sc.req.GetOmitValues(), Share: sc.share(partitions)}
		if sc.at != nil && p == int(sc.at.partition) {
			q.HasAfter, q.AfterID, q.AfterKey = len(sc.at.id) > 0, sc.at.id, sc.at.key // without an id: from the partition's beginning
		}
		if sc.room.items > 0 && left < kv.ItemOverhead { // no room for anything more
			out.NextPageToken = sc.next(&cursor{partition: uint32(p)})
			break
		}
		page, parked, seen, err := sc.ns.KV.Scan(ctx, q, sc.point)
		if err != nil {
			return nil, fromDomain(err)
		}
		before := sc.room.items
		last, full := sc.add(out, page, parked)
		if full && sc.room.items == before { // the partition has not been begun
			out.NextPageToken = sc.next(sc.resume(q))
			break
		}
		sc.seen.add(seen)
		out.Partial = out.Partial || page.Partial
		if full {
			last.partition = uint32(p)
			out.NextPageToken = sc.next(&last)
			break
		}
		if page.More || page.Partial {
			out.NextPageToken = sc.next(&cursor{partition: uint32(p), id: page.LastID, key: page.LastKey})
			break
		}
	}
	out.AsOf = sc.seen.asOf(sc.ns.Stream)
	return out, nil
}

// next is the token of the page that begins at c.
func (sc *scan) next(c *cursor) string {
	c.seen = sc.seen
	return sc.s.pages.seal(c, sc.binding)
}

// resume is the cursor that begins q again.
func (sc *scan) resume(q *kv.ScanQuery) *cursor {
	if q.HasAfter {
		return sc.at
	}
	return &cursor{partition: uint32(q.Partition)}
}

// recordFraming is what a record takes in an answer beyond its id and its items.
const recordFraming = 16

// add puts a page into the answer, as far as there is room: full says that there
// is more, behind last.
func (sc *scan) add(out *headwaterv1.ScanItemsResponse, page *kv.ScanPage, parked []bool) (last cursor, full bool) {
	for i := range page.Records {
		r := &page.Records[i]
		m := &headwaterv1.Record{Id: string(r.ID), Parked: parked[i], Items: make([]*headwaterv1.Item, 0, len(r.Items))}
		framing := len(r.ID) + recordFraming
		for j := range r.Items {
			it := itemMessage(&r.Items[j], &sc.form)
			if !sc.room.take(len(it.GetKey()), len(it.GetValue()), sizeBytes(proto.Size(it))+framing) {
				full = true
				break
			}
			framing = 0
			m.Items = append(m.Items, it)
			last.id, last.key = r.ID, r.Items[j].Key
		}
		if len(m.Items) > 0 {
			out.Records = append(out.Records, m)
		}
		if full {
			break
		}
	}
	return last, full
}
