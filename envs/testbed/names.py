"""In: nothing. Out: 4096 invented names of one word each, all distinct and none an English word."""

_FIRST_NAMES = """
Adrix Alvena Arbin Belva Borun Brisel Calvo Cerin Corvin Dalma Davro Delsa Dorim Edlin Elvor
Emrin Fenna Fervo Folmer Galva Gerin Gorim Halda Helvin Hosmer Ilvara Imrik Isvan Jarda Jelmo
Jorvin Kalvi Kestra Korun Larvo Lenka Lomir Malvo Merik Morda Nalvi Nerim Norva Oldra Orvin
Osmera Palvo Perrin Polma Ralvi Renko Rosmer Salvik Servik Solma Talvi Tervo Torin Ulmar Umbrik
Valko Velmi Wendor Zorvan
"""

_LAST_NAMES = """
Abrell Ambrik Arkwin Baldrow Bexlow Brandel Cardow Cobrin Cresk Dunmor Dorvek Drelling Eldrow
Enskar Esterik Falgrin Fendrik Fostrel Garlund Gresko Gundrel Hadrik Hasgrove Holbrin Ibsell
Ingvor Irwold Jandrek Jeskow Jundel Kadrow Kelbrin Kosgrave Landrik Lesvik Lundor Madrell
Menskor Mosbrin Nadrik Nelgrove Nostrel Ogrell Oldwin Orbek Padrow Pelgrin Posvik Quandel
Quelvor Radgrove Reskow Rundrik Sandrell Selgrin Stavrik Tandrow Telbrin Torrek Ulgrave Vandrik
Vosgrin Weldrik Zandrow
"""

FIRST_NAMES = tuple(_FIRST_NAMES.split())
LAST_NAMES = tuple(_LAST_NAMES.split())
NAMES = tuple(first + last.lower() for first in FIRST_NAMES for last in LAST_NAMES)
