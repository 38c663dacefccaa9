package psam

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	imageMagic = "KWPSAM1\n" // 8 bytes, then nonce 12, then the sealed memory
	imageExt   = ".psam"
	// maxImage bounds what Load reads. A card with every key slot in use needs a few kilobytes.
	maxImage = 1 << 20
)

// shell stands for the chip's shell: it keeps keys from standing readable on a disk and is no protection against
// anybody who can read this source.
var shell = sha256.Sum256([]byte("keyward psam simulator: the shell of a chip that does not exist"))

func shellCipher() (cipher.AEAD, error) {
	block, err := aes.NewCipher(shell[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Save writes the card's image into a directory, as <number>.psam. The old image is replaced in one step or not at all.
func (c *Card) Save(dir string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return saveImage(dir, c.mem)
}

func saveImage(dir string, mem memory) error {
	path := filepath.Join(dir, mem.PSAMNo+imageExt)
	image, err := sealImage(mem)
	if err != nil {
		return fmt.Errorf("seal card image %s: %w", path, err)
	}
	tmp, err := os.CreateTemp(dir, mem.PSAMNo+".tmp-*")
	if err != nil {
		return fmt.Errorf("save card image: %w; is the directory writable?", err)
	}
	_, err = tmp.Write(image)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save card image %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}

func sealImage(mem memory) ([]byte, error) {
	plain, err := json.Marshal(mem)
	if err != nil {
		return nil, err
	}
	aead, err := shellCipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return aead.Seal(append([]byte(imageMagic), nonce...), nonce, plain, []byte(imageMagic)), nil
}

// Load reads a card image that Save wrote. A damaged or foreign file is refused.
func Load(path string) (*Card, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load card image: %w", err)
	}
	image, err := io.ReadAll(io.LimitReader(file, maxImage+1))
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("load card image %s: %w", path, err)
	}
	mem, err := openImage(image)
	if err != nil {
		return nil, fmt.Errorf("load card image %s: %w; delete the file and issue the card again", path, err)
	}
	return newCard(mem), nil
}

func openImage(image []byte) (memory, error) {
	aead, err := shellCipher()
	if err != nil {
		return memory{}, err
	}
	head := len(imageMagic) + aead.NonceSize()
	if len(image) > maxImage || len(image) < head || string(image[:len(imageMagic)]) != imageMagic {
		return memory{}, errors.New("not a card image of this simulator")
	}
	plain, err := aead.Open(nil, image[len(imageMagic):head], image[head:], []byte(imageMagic))
	if err != nil {
		return memory{}, fmt.Errorf("the image is damaged: %w", err)
	}
	var mem memory
	if err := json.Unmarshal(plain, &mem); err != nil {
		return memory{}, fmt.Errorf("the image holds no card: %w", err)
	}
	if _, err := packNumber(mem.PSAMNo); err != nil || mem.controlKey(masterFile) == nil {
		return memory{}, errors.New("the image holds no complete card")
	}
	return mem, nil
}
