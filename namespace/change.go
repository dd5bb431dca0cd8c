package namespace

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/headwater-db/headwater/wal"
)

// op is what a record of the registry asks for. The words are part of the data
// format.
type op string

const (
	opApply  op = "apply"
	opDelete op = "delete"
	opOwner  op = "owner"
	opStores op = "stores"
	opSecret op = "secret" // of no namespace
)

// change is the payload of a KindNamespace record; see the package comment.
type change struct {
	Op          op      `json:"op"`
	Name        string  `json:"name"`
	BaseVersion uint64  `json:"base_version,omitempty"` // 0: the name is not in use; owner: nobody was the owner yet
	Generation  uint64  `json:"generation"`             // of the life that is meant, or that begins
	Incarnation string  `json:"incarnation,omitempty"`  // apply: of the topic, in hex
	Document    string  `json:"document,omitempty"`     // apply
	Config      *Config `json:"config,omitempty"`       // apply: what Document means, defaults and all
	OwnerBefore string  `json:"owner_before,omitempty"` // owner
	Owner       string  `json:"owner,omitempty"`        // owner; empty: nobody
	// StoresBefore and Stores: of stores, and of an apply that exchanges roles. The
	// record counts where the lives of the stores were last changed at StoresBefore.
	StoresBefore uint64      `json:"stores_before,omitempty"`
	Stores       []StoreLife `json:"stores,omitempty"`
	By           string      `json:"by,omitempty"`
	Secret       []byte      `json:"secret,omitempty"` // secret
}

// changeVersion is the first byte of the payload.
const changeVersion = 1

const (
	maxByBytes    = 256
	maxOwnerBytes = 128
)

// encodeChange returns the payload of c.
func encodeChange(c *change) ([]byte, error) {
	j, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode change of namespace %s: %w", c.Name, err)
	}
	return append([]byte{changeVersion}, j...), nil
}

// decodeChange reads what encodeChange wrote, and nothing else. ErrMalformed.
func decodeChange(b []byte) (*change, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	if b[0] != changeVersion {
		return nil, fmt.Errorf("%w: version 0x%02x of the payload is not known to this build", ErrMalformed, b[0])
	}
	dec := json.NewDecoder(bytes.NewReader(b[1:]))
	dec.DisallowUnknownFields()
	var c change
	if err := dec.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: trailing bytes", ErrMalformed)
	}
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("%w: %s of %s: %w", ErrMalformed, quote(string(c.Op)), quote(c.Name), err)
	}
	return &c, nil
}

// check refuses what no build writes. It is about form only: what is a valid
// document was decided before the record was written.
func (c *change) check() error {
	if c.Op == opSecret {
		if len(c.Secret) != SecretBytes || c.Name != "" || c.Generation != 0 || c.Config != nil {
			return errors.New("not a secret alone")
		}
		return nil
	}
	if c.Secret != nil {
		return errors.New("a secret where none belongs")
	}
	if !nameRE.MatchString(c.Name) {
		return errors.New("not a namespace name")
	}
	if c.Generation == 0 {
		return errors.New("no generation")
	}
	apply := c.Op == opApply
	switch {
	case !apply && (c.Document != "" || c.Config != nil || c.Incarnation != ""):
		return errors.New("a document where none belongs")
	case c.Op != opOwner && (c.Owner != "" || c.OwnerBefore != ""):
		return errors.New("an owner where none belongs")
	case c.Op != opStores && c.Op != opApply && (c.Stores != nil || c.StoresBefore != 0):
		return errors.New("stores where none belong")
	}
	switch c.Op {
	case opApply:
		if c.Config == nil || c.Config.Name != c.Name {
			return errors.New("no configuration of that name")
		}
		if c.Config.Partitions < 1 || c.Config.Abstraction == "" {
			return errors.New("configuration without partitions or abstraction")
		}
		if _, err := c.incarnation(); err != nil {
			return err
		}
	case opDelete:
		if c.BaseVersion == 0 {
			return errors.New("delete of nothing")
		}
	case opOwner:
		if c.Owner == c.OwnerBefore {
			return errors.New("owner does not change")
		}
		if c.OwnerBefore != "" && c.BaseVersion == 0 {
			return errors.New("an owner since no version")
		}
	case opStores:
		if len(c.Stores) == 0 || c.BaseVersion != 0 {
			return errors.New("no stores")
		}
	default:
		return errors.New("unknown operation")
	}
	return nil
}

func (c *change) incarnation() (wal.Incarnation, error) {
	var inc wal.Incarnation
	b, err := hex.DecodeString(c.Incarnation)
	if err != nil || len(b) != len(inc) {
		return inc, errors.New("incarnation is not 16 bytes in hex")
	}
	copy(inc[:], b)
	return inc, nil
}
