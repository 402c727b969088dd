// The plugin that the project compares itself with: k8s.io/kms's gRPC service around one AES-GCM call in an HSM that is
// loaded into the same process, which is what Kubernetes' own PKCS#11 mock plugin does. No cache, no health, no rotation.
package main

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ThalesGroup/crypto11"
	"k8s.io/kms/pkg/service"
)

const annotation = "version.reference.kms-pkcs11.dev"

type reference struct {
	keyID string
	aead  cipher.AEAD
}

func (r *reference) Status(context.Context) (*service.StatusResponse, error) {
	return &service.StatusResponse{Version: "v2", Healthz: "ok", KeyID: r.keyID}, nil
}

func (r *reference) Encrypt(_ context.Context, _ string, plaintext []byte) (*service.EncryptResponse, error) {
	nonce := make([]byte, r.aead.NonceSize(), r.aead.NonceSize()+len(plaintext)+r.aead.Overhead())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return &service.EncryptResponse{
		Ciphertext:  r.aead.Seal(nonce, nonce, plaintext, []byte(r.keyID)),
		KeyID:       r.keyID,
		Annotations: map[string][]byte{annotation: []byte("1")},
	}, nil
}

func (r *reference) Decrypt(_ context.Context, _ string, request *service.DecryptRequest) ([]byte, error) {
	size := r.aead.NonceSize()
	switch {
	case request.KeyID != r.keyID:
		return nil, errors.New("another key_id")
	case len(request.Annotations) != 1 || string(request.Annotations[annotation]) != "1":
		return nil, errors.New("other annotations")
	case len(request.Ciphertext) < size:
		return nil, errors.New("shorter than a nonce")
	}
	return r.aead.Open(nil, request.Ciphertext[:size], request.Ciphertext[size:], []byte(r.keyID))
}

func open(module, token, pinFile, label string) (*reference, error) {
	pin, err := os.ReadFile(pinFile)
	if err != nil {
		return nil, err
	}
	hsm, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: token, Pin: string(pin)})
	if err != nil {
		return nil, err
	}
	key, err := hsm.FindKey(nil, []byte(label))
	if err != nil {
		return nil, err
	}
	if key == nil {
		return nil, errors.New("no key has that label")
	}
	aead, err := key.NewGCM()
	return &reference{keyID: "reference", aead: aead}, err
}

func main() {
	socket := flag.String("socket", "", "path to listen on")
	module := flag.String("module", "", "PKCS#11 library")
	token := flag.String("token", "", "label of the token")
	pinFile := flag.String("pin-file", "", "file that holds the PIN and nothing else")
	label := flag.String("label", "", "label of the key")
	flag.Parse()

	kms, err := open(*module, *token, *pinFile, *label)
	if err != nil {
		log.Fatal(err)
	}
	server := service.NewGRPCService(*socket, 5*time.Second, kms)
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	select {
	case err := <-ended:
		log.Fatal(err)
	case <-stop:
		server.Shutdown()
	}
}
