"""Images in files.

decoding.py  pixels of a file; the only place that knows Pillow
framing.py   where a picture of any size is cut
files.py     lists of files, found without opening them
layout.py    which folders are splits and pairs, by their names
folders.py   one folder for each class, or images without labels
pairs.py     pairs of folders, found and put together
patches.py   the same place of two images, drawn
whole.py     whole images in place of their patches
"""
