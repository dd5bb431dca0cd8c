package kafkalog

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// minRetryBackoff is the shortest pause before a produce request is sent again;
// see Log.outcome.
const minRetryBackoff = 250 * time.Millisecond

// retryBackoff doubles from minRetryBackoff to 2.5 s, with up to a fifth more.
func retryBackoff(fails int) time.Duration {
	d := minRetryBackoff << min(max(fails-1, 0), 4)
	d = min(d, 2500*time.Millisecond)
	return d + rand.N(d/5)
}

// clientLogger passes the client's warnings on.
type clientLogger struct{ log *slog.Logger }

func (l clientLogger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (l clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	to := slog.LevelWarn
	if level == kgo.LogLevelError {
		to = slog.LevelError
	}
	l.log.Log(context.Background(), to, "kafka client", append([]any{"message", msg}, keyvals...)...)
}
