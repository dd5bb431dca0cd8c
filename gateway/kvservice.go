package gateway

import (
	"context"
	"errors"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// KeyValue is the KeyValueService.
type KeyValue struct {
	headwaterv1.UnimplementedKeyValueServiceServer
	dir   *Directory
	pages *PageTokens
	// MakeGroups makes GroupsNamespace, and returns when it takes writes; nil: it is there or is not. Set it before the
	// service is used.
	MakeGroups func(ctx context.Context) error
}

// NewKeyValue returns the service over dir.
func NewKeyValue(dir *Directory, pages *PageTokens) *KeyValue {
	return &KeyValue{dir: dir, pages: pages}
}

// PutItems puts items of one record, all or none.
func (s *KeyValue) PutItems(ctx context.Context, req *headwaterv1.PutItemsRequest) (*headwaterv1.PutItemsResponse, error) {
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	r, size, err := putRequest(ns, req)
	if err == nil {
		err = ns.admitWrite(1, size)
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res := ns.KV.Write(ctx, []*kv.Request{r})[0]
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	return putResponse(ns, &res, req.GetToken()), nil
}

func putResponse(ns *Namespace, res *kv.Result, sent *headwaterv1.IdempotencyToken) *headwaterv1.PutItemsResponse {
	out := &headwaterv1.PutItemsResponse{Result: writeResult(ns, res, sent), Versions: make([]string, len(res.Versions))}
	for i, v := range res.Versions {
		out.Versions[i] = v.String()
	}
	return out
}

func writeResult(ns *Namespace, res *kv.Result, sent *headwaterv1.IdempotencyToken) *headwaterv1.WriteResult {
	return &headwaterv1.WriteResult{Token: tokenMessage(res.Token, sent), Position: res.Position, Durability: ns.durability(), Duplicate: duplicateOf(res.Duplicate, res.Unsure)}
}

// duplicateOf says UNKNOWN of what is no duplicate as far as it is known, where that is unsure.
func duplicateOf(d, unsure bool) headwaterv1.WriteResult_Duplicate {
	switch {
	case unsure:
		return headwaterv1.WriteResult_UNKNOWN
	case d:
		return headwaterv1.WriteResult_YES
	}
	return headwaterv1.WriteResult_NO
}

// maxBatch bounds BatchPutItems, in requests. MaxBatchItems bounds their items: the
// answer has a version for each.
const (
	maxBatch      = 1000
	MaxBatchItems = 50_000
)

// BatchPutItems does many puts of one namespace, each by itself under its own
// token. It fails as a whole only where no put was begun.
func (s *KeyValue) BatchPutItems(ctx context.Context, req *headwaterv1.BatchPutItemsRequest) (*headwaterv1.BatchPutItemsResponse, error) {
	reqs := req.GetRequests()
	if len(reqs) == 0 || len(reqs) > maxBatch {
		return nil, forWrite(apierrors.New(apierrors.TooManyItems, "a batch has %d requests; it takes 1 to %d", len(reqs), maxBatch), false, nil)
	}
	items := 0
	for _, r := range reqs {
		items += len(r.GetItems())
	}
	if items > MaxBatchItems {
		err := apierrors.New(apierrors.TooManyItems, "a batch has %d items; it takes %d", items, MaxBatchItems)
		return nil, forWrite(err, false, nil)
	}
	name := reqs[0].GetNamespace()
	ns, err := s.dir.kv(ctx, name)
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	out := &headwaterv1.BatchPutItemsResponse{Responses: make([]*headwaterv1.BatchPutItemsResult, len(reqs))}
	todo := make([]*kv.Request, 0, len(reqs))
	index := make([]int, 0, len(reqs))
	size := 0
	for i, r := range reqs {
		if r.GetNamespace() != name {
			return nil, forWrite(apierrors.New(apierrors.MixedBatch, "the batch names the namespaces %s and %.64q; send one call for each", name, r.GetNamespace()), false, nil)
		}
		k, n, err := putRequest(ns, r)
		if err != nil {
			out.Responses[i] = itemError(forWrite(err, false, r.GetToken()))
			continue
		}
		todo, index, size = append(todo, k), append(index, i), size+n
	}
	if len(todo) == 0 {
		return out, nil
	}
	if err := ns.admitWrite(len(todo), size); err != nil {
		return nil, forWrite(err, false, nil)
	}
	results := ns.KV.Write(ctx, todo)
	for j := range results {
		i, res := index[j], &results[j]
		if res.Err != nil {
			out.Responses[i] = itemError(forWrite(res.Err, res.Unknown, tokenMessage(res.Token, reqs[i].GetToken())))
			continue
		}
		out.Responses[i] = &headwaterv1.BatchPutItemsResult{Result: &headwaterv1.BatchPutItemsResult_Response{Response: putResponse(ns, res, reqs[i].GetToken())}}
	}
	return out, nil
}

func itemError(err error) *headwaterv1.BatchPutItemsResult {
	e := apierrors.From(err)
	m := &headwaterv1.ItemError{
		Code: int32(e.Code), Reason: e.Reason, Message: e.Message, Metadata: e.Metadata, Token: e.Token,
		Outcome: headwaterv1.ItemError_Outcome(headwaterv1.ItemError_Outcome_value[string(e.Outcome)]),
	}
	if e.RetryAfter > 0 {
		m.RetryAfter = durationpb.New(e.RetryAfter)
	}
	return &headwaterv1.BatchPutItemsResult{Result: &headwaterv1.BatchPutItemsResult_Error{Error: m}}
}

// DeleteItems deletes keys, a range, or a whole record.
func (s *KeyValue) DeleteItems(ctx context.Context, req *headwaterv1.DeleteItemsRequest) (*headwaterv1.DeleteItemsResponse, error) {
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	m, err := deleteMutation(req)
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	tok, err := parseToken(req.GetToken())
	if err == nil {
		err = ns.admitWrite(1, len(req.GetId())+64)
	}
	if err != nil {
		return nil, forWrite(err, false, req.GetToken())
	}
	res := ns.KV.Write(ctx, []*kv.Request{{Token: tok, Mutations: []kv.Mutation{m}}})[0]
	if res.Err != nil {
		return nil, forWrite(res.Err, res.Unknown, tokenMessage(res.Token, req.GetToken()))
	}
	return &headwaterv1.DeleteItemsResponse{Result: writeResult(ns, &res, req.GetToken())}, nil
}

// GetItems reads a page of one record.
func (s *KeyValue) GetItems(ctx context.Context, req *headwaterv1.GetItemsRequest) (*headwaterv1.GetItemsResponse, error) {
	r, err := s.itemsRead(ctx, req)
	if err != nil {
		return nil, err
	}
	l := &itemsList{form: r.form, room: itemRoom{bytes: r.q.MaxBytes}}
	r.q.Each = l.add
	page, seen, err := r.ns.KV.Get(ctx, r.q, r.point)
	if err != nil {
		return nil, fromDomain(err)
	}
	r.seen.add(seen)
	return &headwaterv1.GetItemsResponse{
		Items: l.items, NextPageToken: s.nextPage(r, page), Partial: page.Partial,
		AsOf: r.seen.asOf(r.ns.Stream),
	}, nil
}

// itemsRead is a GetItems that has been checked.
type itemsRead struct {
	ns    *Namespace
	req   *headwaterv1.GetItemsRequest
	q     *kv.Query
	point *wal.ReadPoint
	form  itemForm
	seen  pagesSeen
	first [1]wal.Seen // the memory of seen, of a first page
}

func (s *KeyValue) itemsRead(ctx context.Context, req *headwaterv1.GetItemsRequest) (*itemsRead, error) {
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	r := &itemsRead{ns: ns, req: req}
	if r.q, r.seen, err = s.query(ns, req); err != nil {
		return nil, err
	}
	if r.seen == nil {
		r.seen = r.first[:0]
	}
	if r.point, err = readPoint(ns, req.GetConsistency(), req.GetAfter()); err != nil {
		return nil, err
	}
	r.form.omitValues, r.form.omitAbove = r.q.OmitValues, r.q.OmitAbove
	r.form.accept, err = accepted(req.GetAcceptCompression())
	return r, err
}

// nextPage is the token of the page behind page, "" when there is none.
func (s *KeyValue) nextPage(r *itemsRead, page *kv.Page) string {
	if !page.More {
		return ""
	}
	return s.pages.seal(&cursor{index: uint32(page.NextIndex), key: page.LastKey, seen: r.seen}, binding(r.ns, r.req, r.q))
}

// consistencies are the words of a namespace document.
var consistencies = map[string]wal.Consistency{"read_your_writes": wal.ReadYourWrites, "latest": wal.Latest, "eventual": wal.Eventual}

// readPoint checks what a read waits for.
func readPoint(ns *Namespace, c headwaterv1.Consistency, after []string) (*wal.ReadPoint, error) {
	point := &wal.ReadPoint{}
	switch c {
	case headwaterv1.Consistency_CONSISTENCY_UNSPECIFIED:
		point.Consistency = consistencies[ns.Config().KV.Consistency]
	case headwaterv1.Consistency_READ_YOUR_WRITES:
		point.Consistency = wal.ReadYourWrites
	case headwaterv1.Consistency_LATEST:
		point.Consistency = wal.Latest
	case headwaterv1.Consistency_EVENTUAL:
		point.Consistency = wal.Eventual
	default:
		return nil, apierrors.New(apierrors.BadConsistency, "consistency %d is not known; use READ_YOUR_WRITES, LATEST or EVENTUAL", c)
	}
	if len(after) == 0 {
		return point, nil
	}
	if len(after) > MaxAfter {
		return nil, apierrors.New(apierrors.BadPosition, "after has %d positions; it takes %d", len(after), MaxAfter)
	}
	merged, err := ns.Stream.MergeAfter(after)
	if errors.Is(err, wal.ErrMalformed) {
		return nil, apierrors.Wrap(apierrors.BadPosition, err, "a position of after is not one that an answer gave")
	}
	if err != nil {
		return nil, fromDomain(err)
	}
	point.After = merged
	return point, nil
}

// MaxAfter bounds the positions of one read.
const MaxAfter = 1000

// ScanItems walks a namespace, or a shard of it, record by record.
func (s *KeyValue) ScanItems(ctx context.Context, req *headwaterv1.ScanItemsRequest) (*headwaterv1.ScanItemsResponse, error) {
	ns, err := s.dir.kv(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	sc, err := s.newScan(ns, req)
	if err != nil {
		return nil, err
	}
	return sc.run(ctx)
}
