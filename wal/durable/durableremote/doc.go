// Package durableremote asks the process that holds a partition for what named consumers fetch, and answers who asks.
package durableremote
