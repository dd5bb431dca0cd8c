package gateway

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// GetDecision implements AdminService.
func (s *Admin) GetDecision(ctx context.Context, req *headwaterv1.GetDecisionRequest) (*headwaterv1.GetDecisionResponse, error) {
	ns, err := s.cfg.Directory.lookup(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	tok, err := parseToken(req.GetToken())
	if err != nil {
		return nil, err
	}
	if tok.Nonce == (wal.Nonce{}) {
		return nil, apierrors.New(apierrors.BadToken, "token has neither nonce nor key; send the token that the write was answered with")
	}
	fate, token, err := ns.fate(ctx, req.GetKey(), tok.Nonce)
	if err != nil {
		return nil, fromDomain(err)
	}
	outcome := headwaterv1.GetDecisionResponse_APPLIED
	switch {
	case fate.Parked:
		outcome = headwaterv1.GetDecisionResponse_PARKED
	case fate.Reason != "":
		outcome = headwaterv1.GetDecisionResponse_REFUSED
	case !fate.Known:
		letter, err := ns.letterOf(ctx, req.GetKey(), tok.Nonce, token)
		if err != nil {
			return nil, fromDomain(err)
		}
		if letter == nil {
			return &headwaterv1.GetDecisionResponse{}, nil
		}
		fate = consumers.Fate{Known: true, Reason: letter.Reason, At: letter.Ref}
		outcome = headwaterv1.GetDecisionResponse_REFUSED
		if letter.Disposition == consumers.Dropped {
			outcome = headwaterv1.GetDecisionResponse_DROPPED
		}
	}
	res := &headwaterv1.GetDecisionResponse{Known: true, Outcome: &outcome, Position: proto.String(ns.Stream.Position(fate.At.Partition, fate.At.Offset))}
	if fate.Reason != "" {
		res.Reason = proto.String(fate.Reason)
	}
	return res, nil
}

// fate asks the abstraction what became of a write, and returns how it finds the token
// of a call of a record.
func (n *Namespace) fate(ctx context.Context, key string, nonce wal.Nonce) (f consumers.Fate, token func(*wal.Record, int) wal.Token, err error) {
	switch {
	case n.KV != nil:
		if err := checkID(key); err != nil {
			return f, nil, err
		}
		f, err = n.KV.Fate(ctx, []byte(key), nonce)
		return f, kv.TokenOf, err
	case n.Counter != nil:
		if err := checkCounter(key); err != nil {
			return f, nil, err
		}
		f, err = n.Counter.Fate(ctx, []byte(key), nonce)
		return f, counter.TokenOf, err
	}
	return f, nil, wrongAbstraction(n, "GetDecision")
}

// letterOf finds the newest dead letter of a key that tells of a call under a nonce,
// nil when there is none.
func (n *Namespace) letterOf(ctx context.Context, key string, nonce wal.Nonce, token func(*wal.Record, int) wal.Token) (last *consumers.DeadLetter, err error) {
	if n.Letters == nil {
		return nil, nil
	}
	q := &consumers.LetterQuery{
		Limit: MaxLetterPage, Bytes: MaxPageBytes, Scan: LetterScanBytes, Record: n.record,
		Match: func(l *consumers.DeadLetter) bool { return string(l.Key) == key },
	}
	for more := true; more; {
		var letters []consumers.DeadLetter
		if letters, q.From, more, err = n.Letters.List(ctx, q); err != nil {
			return nil, err
		}
		for i := range letters {
			var rec wal.Record
			if wal.DecodeRecord(letters[i].Record, &rec) == nil && token(&rec, letters[i].Ref.Index).Nonce == nonce {
				last = &letters[i]
			}
		}
	}
	return last, nil
}
