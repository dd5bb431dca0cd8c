package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// MethodHeader is the header by which a message says which request its payload is.
const MethodHeader = "Headwater-Method"

// namespaceWrite is a request that writes to one namespace.
type namespaceWrite interface {
	proto.Message
	GetNamespace() string
	GetToken() *headwaterv1.IdempotencyToken
}

// deliverable are the requests that a namespace takes from a log namespace. Of protobuf that does not say what it is
// the first is meant: the bytes of one can be read as another.
var deliverable = map[namespace.Abstraction][]func() namespaceWrite{
	namespace.KV: {
		func() namespaceWrite { return &headwaterv1.PutItemsRequest{} },
		func() namespaceWrite { return &headwaterv1.DeleteItemsRequest{} },
	},
	namespace.Counter: {
		func() namespaceWrite { return &headwaterv1.AddCountRequest{} },
		func() namespaceWrite { return &headwaterv1.AddCountsRequest{} },
	},
	namespace.TimeSeries: {func() namespaceWrite { return &headwaterv1.WriteEventRecordsSyncRequest{} }},
}

// methodOf is the method that a request is of.
func methodOf(m proto.Message) string {
	return strings.TrimSuffix(string(m.ProtoReflect().Descriptor().Name()), "Request")
}

// delivered is a message that was read as a write of the namespace that it goes to: one of the fields is set.
type delivered struct {
	token   wal.Token
	kv      *kv.Request
	adds    *counter.Adds
	events  []timeseries.Event
	message *delivery.Message
}

// parseDelivered reads a message as a write of n. The token of the payload counts where it has one, else that of the
// message.
func parseDelivered(n *Namespace, m *delivery.Attempt) (d delivered, err error) {
	bad := func(format string, args ...any) error {
		e := apierrors.New(apierrors.BadDelivered, format, args...)
		e.Message = "for namespace " + n.Name + ": " + e.Message
		return e
	}
	d.token = m.Token
	if n.Config().Abstraction == namespace.Log {
		if most := n.Config().Limits.MaxValue; int64(len(m.Payload)) > most {
			return d, bad("the payload has %d bytes; it takes %d", len(m.Payload), most)
		}
		d.message = &delivery.Message{Key: m.Key, Token: m.Token, Body: delivery.Body{Payload: m.Payload, Headers: m.Headers}}
		return d, nil
	}
	req, err := readDelivered(n.Config().Abstraction, m)
	if err != nil {
		return d, bad("%s", err)
	}
	if to := req.GetNamespace(); to != "" && to != n.Name {
		return d, bad("the payload is of namespace %.64q; leave the namespace out", to)
	}
	tok, err := parseToken(req.GetToken())
	if err != nil {
		return d, bad("%s", fromDomain(err).Message)
	}
	if tok.Nonce != (wal.Nonce{}) {
		d.token = tok
	}
	if err := d.take(n, req); err != nil {
		return d, bad("%s", fromDomain(err).Message)
	}
	return d, nil
}

// take checks a request as the service of n does.
func (d *delivered) take(n *Namespace, req namespaceWrite) (err error) {
	switch q := req.(type) {
	case *headwaterv1.PutItemsRequest:
		if d.kv, _, err = putRequest(n, q); err == nil {
			d.kv.Token = d.token
		}
	case *headwaterv1.DeleteItemsRequest:
		var m kv.Mutation
		m, err = deleteMutation(q)
		d.kv = &kv.Request{Token: d.token, Mutations: []kv.Mutation{m}}
	case *headwaterv1.AddCountRequest:
		one := &headwaterv1.CounterAdd{Counter: q.GetCounter(), Delta: q.GetDelta(), EventTime: q.GetEventTime(), Ttl: q.GetTtl()}
		d.adds, err = parseAdds(n.Counter, []*headwaterv1.CounterAdd{one})
	case *headwaterv1.AddCountsRequest:
		d.adds, err = parseAdds(n.Counter, q.GetAdds())
	case *headwaterv1.WriteEventRecordsSyncRequest:
		d.events, _, err = parseEvents(q.GetEvents())
	}
	return err
}

// readDelivered reads a payload as a request of an abstraction.
func readDelivered(of namespace.Abstraction, m *delivery.Attempt) (namespaceWrite, error) {
	var methods []string
	candidates := deliverable[of]
	for _, make := range candidates {
		methods = append(methods, methodOf(make()))
	}
	all := strings.Join(methods, " or ")
	i := slices.IndexFunc(m.Headers, func(h delivery.Header) bool { return strings.EqualFold(h.Name, MethodHeader) })
	if i >= 0 {
		at := slices.Index(methods, m.Headers[i].Value)
		if at < 0 {
			return nil, fmt.Errorf("header %s is %.64q; it takes %s", MethodHeader, m.Headers[i].Value, all)
		}
		candidates = candidates[at : at+1]
	}
	isJSON := delivery.IsJSON(m.Payload)
	if !isJSON {
		candidates = candidates[:1]
	}
	var first error
	for _, make := range candidates {
		req := make()
		var err error
		if isJSON {
			err = protojson.Unmarshal(m.Payload, req)
		} else if err = proto.Unmarshal(m.Payload, req); err == nil && hasUnknown(req) {
			err = errors.New("it has fields that are not in this build")
		}
		if err == nil {
			return req, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("the payload is not the JSON or protobuf of %s: %s", all, protoText(first))
}

// records makes the records of a message that was read.
func (d *delivered) records(n *Namespace) ([]wal.Appending, error) {
	switch {
	case d.kv != nil:
		a, err := n.KV.Forward(d.kv)
		return []wal.Appending{a}, err
	case d.adds != nil:
		return n.Counter.Forward(d.token, d.adds)
	case d.message != nil:
		a, err := n.Messages.Forward(d.message)
		return []wal.Appending{a}, err
	}
	return n.TimeSeries.Forward(d.token, d.events)
}

// checkDelivered refuses a message that is no write of a namespace that it goes to. One that is not served now is not
// asked.
func (d *Directory) checkDelivered(ctx context.Context, ns *Namespace, m *delivery.Message) error {
	for _, t := range ns.Config().Delivery.Targets {
		goes := t.Default
		if len(m.Targets) > 0 {
			goes = slices.Contains(m.Targets, t.Name)
		}
		if t.Namespace == "" || !goes {
			continue
		}
		to, err := d.lookup(ctx, t.Namespace)
		if e := apierrors.From(err); e != nil && e.Reason == apierrors.NamespaceNotFound {
			return apierrors.New(apierrors.BadTarget,
				"target %s of namespace %s is namespace %s, which does not exist; create it, or name another target", t.Name, ns.Name, t.Namespace)
		}
		if err != nil {
			continue
		}
		a := &delivery.Attempt{Key: m.Key, Token: m.Token, Payload: m.Payload, Headers: m.Headers}
		if _, err := parseDelivered(to, a); err != nil {
			return err
		}
	}
	return nil
}
