package client

import (
	"crypto/sha256"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// parts is a stream of answers that have come.
type parts struct {
	grpc.ClientStream
	left []*headwaterv1.GetItemResponse
}

func (p *parts) Recv() (*headwaterv1.GetItemResponse, error) {
	if len(p.left) == 0 {
		return nil, io.EOF
	}
	next := p.left[0]
	p.left = p.left[1:]
	return next, nil
}

func TestReceivedValueIsTheOneThatWasUploaded(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("good morning"))
	for _, c := range []struct {
		name, first, second string
		sha256              []byte
		ok                  bool
	}{
		{"whole", "good ", "morning", sum[:], true},
		{"of a server without the sum", "good ", "morning", nil, true},
		{"one bit another", "good ", "mornine", sum[:], false},
		{"pieces in another order", "morning", "good ", sum[:], false},
		{"a sum cut short", "good ", "morning", sum[:31], false},
	} {
		header := &headwaterv1.GetItemResponse_Header{Item: &headwaterv1.Item{Size: 12}, Sha256: c.sha256}
		_, value, err := receive(&parts{left: []*headwaterv1.GetItemResponse{
			{Part: &headwaterv1.GetItemResponse_Header_{Header: header}},
			{Part: &headwaterv1.GetItemResponse_Data{Data: []byte(c.first)}},
			{Part: &headwaterv1.GetItemResponse_Data{Data: []byte(c.second)}},
		}})
		if c.ok != (err == nil) || c.ok && string(value) != "good morning" {
			t.Errorf("%s: %q, %v", c.name, value, err)
		}
		if !c.ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v is not ErrCorrupt", c.name, err)
		}
	}
}
