// The client of the comparison: one connection to each plugin, as an API server has, and closed loops of callers that
// take the plugins in turn, over and over. Prints one JSON line for each turn, without judging it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kms "k8s.io/kms/apis/v2"
)

const (
	seedBytes = 32
	timeout   = 10 * time.Second
)

type target struct {
	name   string
	client kms.KeyManagementServiceClient
	seeds  []*kms.DecryptRequest
}

type turn struct {
	Target      string  `json:"target"`
	Operation   string  `json:"operation"`
	Concurrency int     `json:"concurrency"`
	Repetition  int     `json:"repetition"`
	Requests    int     `json:"requests"`
	Seconds     float64 `json:"seconds"`
	P50Ms       float64 `json:"p50Ms"`
	P99Ms       float64 `json:"p99Ms"`
}

func dial(name, socket string) (*target, error) {
	connection, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"))
	if err != nil {
		return nil, err
	}
	return &target{name: name, client: kms.NewKeyManagementServiceClient(connection)}, nil
}

func (t *target) encrypt(ctx context.Context, seed []byte) (*kms.DecryptRequest, error) {
	answer, err := t.client.Encrypt(ctx, &kms.EncryptRequest{Plaintext: seed, Uid: "load"})
	if err != nil {
		return nil, err
	}
	return &kms.DecryptRequest{Ciphertext: answer.Ciphertext, Uid: "load", KeyId: answer.KeyId, Annotations: answer.Annotations}, nil
}

func (t *target) decrypt(ctx context.Context, request *kms.DecryptRequest) error {
	answer, err := t.client.Decrypt(ctx, request)
	if err == nil && len(answer.Plaintext) != seedBytes {
		err = errors.New("a plaintext of another length")
	}
	return err
}

// prepare makes the seeds for Decrypt, and decrypts each once unless the plugin must not have seen them.
func (t *target) prepare(seeds int, unknown bool) error {
	for n := range seeds {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		seed := make([]byte, seedBytes)
		copy(seed, strconv.Itoa(n))
		request, err := t.encrypt(ctx, seed)
		if err == nil && !unknown {
			err = t.decrypt(ctx, request)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		t.seeds = append(t.seeds, request)
	}
	return nil
}

func (t *target) once(operation string, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	switch operation {
	case "Status":
		answer, err := t.client.Status(ctx, &kms.StatusRequest{})
		if err == nil && answer.Healthz != "ok" {
			err = errors.New(answer.Healthz)
		}
		return err
	case "Encrypt":
		_, err := t.encrypt(ctx, make([]byte, seedBytes))
		return err
	case "Decrypt":
		return t.decrypt(ctx, t.seeds[n%len(t.seeds)])
	}
	return errors.New("no operation " + operation)
}

// run sends requests in closed loops of callers until the time has passed and all requests have been answered.
func (t *target) run(operation string, callers int, length time.Duration, requests int) (turn, error) {
	var wait sync.WaitGroup
	times := make([][]time.Duration, callers)
	failures := make([]error, callers)
	begin := time.Now()
	for caller := range callers {
		wait.Go(func() {
			last := begin
			for n := caller; time.Since(begin) < length || len(times[caller])*callers < requests; n += callers {
				if err := t.once(operation, n); err != nil {
					failures[caller] = fmt.Errorf("%s %s: %w", t.name, operation, err)
					return
				}
				now := time.Now()
				times[caller] = append(times[caller], now.Sub(last))
				last = now
			}
		})
	}
	wait.Wait()
	seconds := time.Since(begin).Seconds()
	all := slices.Concat(times...)
	slices.Sort(all)
	if len(all) == 0 {
		return turn{}, errors.Join(append(failures, errors.New("no request was answered"))...)
	}
	at := func(part float64) float64 { return all[int(part*float64(len(all)-1))].Seconds() * 1000 }
	return turn{Target: t.name, Operation: operation, Concurrency: callers, Requests: len(all), Seconds: seconds,
		P50Ms: at(0.5), P99Ms: at(0.99)}, errors.Join(failures...)
}

func readSeeds(file string) (seeds []*kms.DecryptRequest, err error) {
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &seeds)
	}
	return seeds, err
}

func writeSeeds(file string, seeds []*kms.DecryptRequest) error {
	text, err := json.Marshal(seeds)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	return err
}

func main() {
	var targets []*target
	flag.Func("target", "NAME=SOCKET of a plugin; several times", func(text string) error {
		name, socket, _ := strings.Cut(text, "=")
		one, err := dial(name, socket)
		targets = append(targets, one)
		return err
	})
	operations := flag.String("operations", "Status,Encrypt,Decrypt", "what is asked for")
	concurrency := flag.String("concurrency", "1,16", "numbers of callers")
	repetitions := flag.Int("repetitions", 5, "turns of each plugin in each case")
	turnMs := flag.Int("turn-ms", 300, "least length of a turn")
	requests := flag.Int("requests", 0, "least number of requests in a turn")
	seeds := flag.Int("seeds", 16, "distinct ciphertexts that Decrypt asks for")
	writeTo := flag.String("write-seeds", "", "file to write new ciphertexts to, and nothing else")
	readFrom := flag.String("read-seeds", "", "file with the ciphertexts that Decrypt asks for")
	flag.Parse()

	for _, one := range targets {
		var err error
		if *readFrom != "" {
			one.seeds, err = readSeeds(*readFrom)
		} else {
			err = one.prepare(*seeds, *writeTo != "")
		}
		if err == nil && *writeTo != "" {
			err = writeSeeds(*writeTo, one.seeds)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
	if *writeTo != "" {
		return
	}
	out := json.NewEncoder(os.Stdout)
	for repetition := range *repetitions {
		for _, operation := range strings.Split(*operations, ",") {
			for _, text := range strings.Split(*concurrency, ",") {
				callers, err := strconv.Atoi(text)
				if err != nil || callers < 1 {
					log.Fatalf("--concurrency: %q is no number above 0", text)
				}
				for n := range targets {
					// Rotates the order, so that no plugin is always first.
					one := targets[(n+repetition)%len(targets)]
					took, err := one.run(operation, callers, time.Duration(*turnMs)*time.Millisecond, *requests)
					if err != nil {
						log.Fatal(err)
					}
					took.Repetition = repetition
					if err := out.Encode(took); err != nil {
						log.Fatal(err)
					}
				}
			}
		}
	}
}
