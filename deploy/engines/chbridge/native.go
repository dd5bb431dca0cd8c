package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"regexp"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	cproto "github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// revision is the newest of the native protocol that clickhouse-go speaks without more answers.
const revision = 54460

var selection = regexp.MustCompile(`(?i)^\s*(SELECT|WITH)`)

func newBlock(rev uint64) *cproto.Block {
	b := cproto.NewBlock()
	b.ServerContext = &column.ServerContext{Revision: rev}
	return b
}

// blocks decodes an answer of the engine in Native format.
func blocks(out []byte) (bs []*cproto.Block, err error) {
	rd := proto.NewReader(bytes.NewReader(out))
	for {
		b := newBlock(0)
		if err := b.Decode(rd, 0); err != nil {
			if errors.Is(err, io.EOF) {
				return bs, nil
			}
			return nil, err
		}
		bs = append(bs, b)
	}
}

// header is the block of no rows with the names and types of what a statement takes or gives.
func (e *engine) header(of string, settings map[string]string) (*cproto.Block, error) {
	out, _, err := e.run("DESCRIBE TABLE "+of, "TSVRaw", settings)
	if err != nil {
		return nil, err
	}
	b := newBlock(revision)
	for l := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(l, "\n"), "\t")
		if len(f) < 2 || len(f) > 2 && (f[2] == "MATERIALIZED" || f[2] == "ALIAS") {
			continue
		}
		if err := b.AddColumn(f[0], column.Type(f[1])); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// nativeConn is one connection of the native protocol.
type nativeConn struct {
	e          *engine
	c          net.Conn
	r          *proto.Reader
	b          *proto.Buffer
	rev        int
	compressed bool
}

func (e *engine) serveNative(c net.Conn) {
	n := &nativeConn{e: e, c: c, r: proto.NewReader(c), b: new(proto.Buffer)}
	err := n.serve()
	if err = errors.Join(err, c.Close()); err != nil && !errors.Is(err, io.EOF) {
		log.Println("native:", err)
	}
}

func (n *nativeConn) serve() error {
	if err := n.hello(); err != nil {
		return err
	}
	for {
		code, err := n.r.UVarInt()
		if err != nil {
			return err
		}
		switch proto.ClientCode(code) {
		case proto.ClientCodePing:
			proto.ServerCodePong.Encode(n.b)
			err = n.flush()
		case proto.ClientCodeQuery:
			err = n.query()
		case proto.ClientCodeCancel: // the statement runs on
		default:
			err = fmt.Errorf("packet %d is not known", code)
		}
		if err != nil {
			return err
		}
	}
}

func (n *nativeConn) hello() error {
	code, err := n.r.UVarInt()
	if err != nil {
		return err
	}
	if proto.ClientCode(code) != proto.ClientCodeHello {
		return fmt.Errorf("packet %d where a hello was expected", code)
	}
	var hello proto.ClientHello
	if err := hello.Decode(n.r); err != nil {
		return err
	}
	n.rev = min(hello.ProtocolVersion, revision)
	answer := &proto.ServerHello{Name: "ClickHouse", Major: 26, Minor: 5, Revision: revision, Timezone: "UTC", DisplayName: "libchdb"}
	answer.EncodeAware(n.b, n.rev)
	if err := n.flush(); err != nil {
		return err
	}
	if proto.FeatureAddendum.In(n.rev) {
		_, err = n.r.Str()
	}
	return err
}

func (n *nativeConn) flush() error {
	_, err := n.c.Write(n.b.Buf)
	n.b.Reset()
	return err
}

// encode writes a block as the server does: columns of no rows have no body, not even the
// prefix of a LowCardinality.
func encode(b *cproto.Block, buf *proto.Buffer, rev uint64) error {
	if b.Rows() > 0 {
		return b.Encode(buf, rev)
	}
	if err := b.EncodeHeader(buf, rev); err != nil {
		return err
	}
	for _, c := range b.Columns {
		buf.PutString(c.Name())
		buf.PutString(string(c.Type()))
		if proto.FeatureCustomSerialization.In(int(rev)) {
			buf.PutBool(false)
		}
	}
	return nil
}

func (n *nativeConn) data(b *cproto.Block) error {
	proto.ServerCodeData.Encode(n.b)
	n.b.PutString("")
	if !n.compressed {
		return encode(b, n.b, uint64(n.rev))
	}
	var raw proto.Buffer
	if err := encode(b, &raw, uint64(n.rev)); err != nil {
		return err
	}
	w := compress.NewWriter(0, compress.LZ4)
	if err := w.Compress(raw.Buf); err != nil {
		return err
	}
	n.b.Buf = append(n.b.Buf, w.Data...)
	return nil
}

// fail tells the caller of an error of the engine.
func (n *nativeConn) fail(err error) error {
	proto.ServerCodeException.Encode(n.b)
	(&proto.Exception{Code: proto.Error(codeOf(err)), Name: "DB::Exception", Message: err.Error()}).EncodeAware(n.b, n.rev)
	return n.flush()
}

// nextData reads one packet of data.
func (n *nativeConn) nextData() (*cproto.Block, error) {
	code, err := n.r.UVarInt()
	if err != nil {
		return nil, err
	}
	if proto.ClientCode(code) != proto.ClientCodeData {
		return nil, fmt.Errorf("packet %d where data was expected", code)
	}
	if _, err := n.r.Str(); err != nil {
		return nil, err
	}
	if n.compressed {
		n.r.EnableCompression()
		defer n.r.DisableCompression()
	}
	b := newBlock(uint64(n.rev))
	return b, b.Decode(n.r, uint64(n.rev))
}

func (n *nativeConn) query() error {
	var q proto.Query
	if err := q.DecodeAware(n.r, n.rev); err != nil {
		return err
	}
	n.compressed = q.Compression == proto.CompressionEnabled
	settings := map[string]string{}
	for _, s := range q.Settings {
		settings[s.Key] = s.Value
	}
	for _, p := range q.Parameters {
		settings["param_"+p.Key] = unquote(p.Value)
	}
	for { // external tables end with an empty block
		b, err := n.nextData()
		if err != nil {
			return err
		}
		if len(b.Columns) == 0 {
			break
		}
	}
	if into, ok := insertOf(q.Body); ok {
		return n.insert(into, settings)
	}
	out, read, err := n.e.run(q.Body, "Native", settings)
	if err != nil {
		return n.fail(err)
	}
	bs, err := blocks(out)
	if err != nil {
		return n.fail(err)
	}
	if len(bs) == 0 && selection.MatchString(q.Body) {
		if h, err := n.e.header("("+q.Body+")", settings); err == nil {
			bs = append(bs, h)
		}
	}
	for _, b := range bs {
		if err := n.data(b); err != nil {
			return err
		}
	}
	proto.ServerCodeProgress.Encode(n.b)
	proto.Progress{Rows: read}.EncodeAware(n.b, n.rev)
	proto.ServerCodeEndOfStream.Encode(n.b)
	return n.flush()
}

// unquote undoes what a client does to a parameter: it is sent as a quoted string.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return s
	}
	var b strings.Builder
	for s = s[1 : len(s)-1]; s != ""; s = s[1:] {
		if s[0] == '\\' && len(s) > 1 {
			s = s[1:]
		}
		b.WriteByte(s[0])
	}
	return b.String()
}

func (n *nativeConn) insert(into target, settings map[string]string) error {
	h, err := n.e.header(into.sample(), nil)
	if err != nil {
		return n.fail(err)
	}
	if err := errors.Join(n.data(h), n.flush()); err != nil {
		return err
	}
	var out proto.Buffer
	rows := 0
	for {
		b, err := n.nextData()
		if err != nil {
			return err
		}
		if len(b.Columns) == 0 {
			break
		}
		rows += b.Rows()
		if err := b.Encode(&out, 0); err != nil {
			return err
		}
	}
	if rows > 0 {
		if err := n.e.insert(into, out.Buf, settings); err != nil {
			return n.fail(err)
		}
	}
	proto.ServerCodeEndOfStream.Encode(n.b)
	return n.flush()
}
