package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// redisConn is one connection to Redis. Not safe for concurrent use.
type redisConn struct {
	c   net.Conn
	r   *bufio.Reader
	out []byte
}

// redisPatience bounds one exchange.
const redisPatience = 10 * time.Second

func dialRedis(addr string) (*redisConn, error) {
	c, err := net.DialTimeout("tcp", addr, redisPatience)
	if err != nil {
		return nil, err
	}
	return &redisConn{c: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

func (c *redisConn) close() error { return c.c.Close() }

// command queues a command for flush.
func (c *redisConn) command(args ...string) {
	c.out = append(c.out, '*')
	c.out = strconv.AppendInt(c.out, int64(len(args)), 10)
	for _, a := range args {
		c.out = append(c.out, "\r\n$"...)
		c.out = strconv.AppendInt(c.out, int64(len(a)), 10)
		c.out = append(c.out, "\r\n"...)
		c.out = append(c.out, a...)
	}
	c.out = append(c.out, "\r\n"...)
}

// flush sends what is queued.
func (c *redisConn) flush() error {
	defer func() { c.out = c.out[:0] }()
	if err := c.c.SetDeadline(time.Now().Add(redisPatience)); err != nil {
		return err
	}
	_, err := c.c.Write(c.out)
	return err
}

// redisError is an answer that begins with a minus.
type redisError string

func (e redisError) Error() string { return "redis: " + string(e) }

// errLoading: the server reads its file, and has done nothing.
func (e redisError) loading() bool { return strings.HasPrefix(string(e), "LOADING") }

// reply reads one answer: a number, a line, or a string, which is "" when there
// is none. Arrays are not read, and no command that is sent here answers one.
func (c *redisConn) reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("redis: an empty answer")
	}
	switch text := line[1:]; line[0] {
	case ':', '+':
		return text, nil
	case '-':
		return "", redisError(text)
	case '$':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return "", err
		}
		b := make([]byte, n+len("\r\n"))
		for have := 0; have < len(b); {
			m, err := c.r.Read(b[have:])
			if err != nil {
				return "", err
			}
			have += m
		}
		return string(b[:n]), nil
	default:
		return "", fmt.Errorf("redis: an answer that is not understood: %q", line)
	}
}

// redisSender counts in Redis. Plain, a call is a pipeline of INCRBY, and what had
// no answer is sent again, as clients do. With tokens it is one script, which does
// nothing when the token of the call is there.
type redisSender struct {
	addr   string
	tokens bool
	conn   *redisConn // nil: to be made
	args   []string
}

// script counts a call once: KEYS are its token and the counters, ARGV the
// milliseconds that the token is kept and the deltas.
const script = `if redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) then
for i = 2, #KEYS do redis.call('INCRBY', KEYS[i], ARGV[i]) end
return 1 end
return 0`

// scriptWindow is as long as tokens are kept by a namespace by default: 15 min.
const scriptWindow = "900000"

func (s *redisSender) send(ctx context.Context, b *CounterBatch, token string) (again int, known bool, err error) {
	left := make([]string, 0, b.Flights*IncrementsPerFlight)
	for i := range b.trips {
		for _, n := range b.trips[i].names {
			left = append(left, b.names[n])
		}
	}
	for wait := firstWait; ; wait = min(2*wait, lastWait) {
		if s.tokens {
			known, err = s.script(left, token)
		} else {
			left, err = s.pipeline(left)
		}
		if err == nil {
			return again, known, nil
		}
		if e, ok := errors.AsType[redisError](err); ok && !e.loading() {
			return again, false, err
		}
		if s.conn != nil {
			_ = s.conn.close() // it is broken, or in the middle of answers
			s.conn = nil
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return again, false, fmt.Errorf("redis does not answer: %w", errors.Join(err, context.Cause(ctx)))
		}
		again++
	}
}

// The waits of a client between attempts, which are those of ours.
const (
	firstWait = 20 * time.Millisecond
	lastWait  = 2 * time.Second
)

func (s *redisSender) connect() (err error) {
	if s.conn == nil {
		s.conn, err = dialRedis(s.addr)
	}
	return err
}

// pipeline sends one INCRBY for each counter, and returns those without an answer.
func (s *redisSender) pipeline(counters []string) (left []string, err error) {
	if err := s.connect(); err != nil {
		return counters, err
	}
	for _, name := range counters {
		s.conn.command("INCRBY", name, "1")
	}
	if err := s.conn.flush(); err != nil {
		return counters, err
	}
	for i := range counters {
		if _, err := s.conn.reply(); err != nil {
			return counters[i:], err
		}
	}
	return nil, nil
}

func (s *redisSender) script(counters []string, token string) (known bool, err error) {
	if err := s.connect(); err != nil {
		return false, err
	}
	s.args = append(s.args[:0], "EVAL", script, strconv.Itoa(1+len(counters)), token)
	s.args = append(append(s.args, counters...), scriptWindow)
	for range counters {
		s.args = append(s.args, "1")
	}
	s.conn.command(s.args...)
	if err := s.conn.flush(); err != nil {
		return false, err
	}
	r, err := s.conn.reply()
	return err == nil && r == "0", err
}

func (s *redisSender) close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.close()
}

// startRedis starts a server that acknowledges what is fsynced, on a free port,
// and waits until it has read its file.
func startRedis(ctx context.Context, path, dir string) (*process, error) {
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no", "--loglevel", "warning")
	p, err := launch(cmd, nil)
	if err != nil {
		return nil, err
	}
	p.addr = addr
	for {
		if err := pingRedis(addr); err == nil {
			return p, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-p.gone:
			return nil, fmt.Errorf("%s ended while it started: %s", filepath.Base(path), p.said())
		case <-ctx.Done():
			p.kill()
			return nil, context.Cause(ctx)
		}
	}
}

func pingRedis(addr string) (err error) {
	c, err := dialRedis(addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	c.command("PING")
	if err := c.flush(); err != nil {
		return err
	}
	_, err = c.reply()
	return err
}

// freePort finds an address that nothing listens on. Another may take it first:
// the server then ends, and says so.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return ln.Addr().String(), ln.Close()
}

// readRedis reads counters by name.
func readRedis(addr string, names []string) (_ []int64, err error) {
	c, err := dialRedis(addr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for _, name := range names {
		c.command("GET", name)
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	counts := make([]int64, len(names))
	for i := range names {
		text, err := c.reply()
		if err == nil && text != "" {
			counts[i], err = strconv.ParseInt(text, 10, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", names[i], err)
		}
	}
	return counts, nil
}
