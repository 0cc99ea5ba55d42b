"""What the page of a report says whatever was found: its question, its limits, what others did before; its looks."""

TITLE = "What happens to a network that learns by Forward-Forward when its sleep is taken away?"
QUESTION = (
    "A network that learns by Forward-Forward has two phases: it raises its goodness on real data (here "
    "called wake) and lowers it on negative data, wrong labels that it half believes in (here called sleep). "
    "Hinton (2022, section 9) asks whether taking the negative phase away for a while would mimic the "
    "devastating effects of sleep deprivation. Subjects grow up with both phases. Copies of each then live on "
    "in different ways, with the same images in the same order, and are probed with plasticity off."
)
CAVEATS = (
    "Wake and sleep are names for the two phases. An update is no hour: where time constants stand beside "
    "those of people, only their ratio can be compared.",
    "A hallucination is a rate of false positives: wrong labels or noise that pass for real. Nothing is said "
    "of experience.",
    "There is no circadian rhythm, no neuromodulation, no metabolism and no clearance of waste in the model, "
    "and no body to die: divergence of activity stands for catastrophe.",
    "That activity rises in wake follows from the objective (high goodness on real data), not from the "
    "biology of sleep; with the other sign it falls. Whether synapses strengthen in wake at all is disputed "
    "among physiologists.",
    "People lapse early in sleep loss and hallucinate late. A model that does the reverse mimics single "
    "signs, not the course.",
    "One family of networks and one or two sets of images were studied. What holds for them may not hold for "
    "others, and a lesion that looks like an illness is weak evidence for its cause.",
    "Wake-sleep learning (1995), the negative phase of Boltzmann machines, reverse learning (Crick and "
    "Mitchison 1983) and the negative phase of Forward-Forward are four different ideas of sleep; only the "
    "last is tested.",
    "Learning rates, numbers of updates and what counts as a lapse are choices. They are in the protocol, and "
    "all trials and values are in the files beside this page.",
)
PRIOR_ART = (
    "Whether the two phases may lie far apart in time is an open question. A first public text of Hinton's "
    "paper showed, in its section 4.1 and figure 5, a net that learns as well when they do. The later version "
    "(arXiv 2212.13345) is reported to have withdrawn that result: its author is reported to have been unable "
    "to replicate it, to suspect a fault in the program, and to find that long separation works only with a "
    "very low learning rate and extremely high momentum. Nothing here takes figure 5 as established.",
    "Lica and Dinucu-Jianu (2023, “Sleep Deprivation in the Forward-Forward Algorithm”, arXiv 2310.18647) are "
    "reported to have trained nets from the start with blocks of either phase, and to have found accuracy the "
    "lower the longer the blocks. That mixes two things: drift while the negative phase is missing, and "
    "instability of long alternation. Here nets are grown up before they are deprived, and the two are kept "
    "apart.",
    "Williams, Bredenberg and Lajoie (2023, arXiv 2302.12431) are reported to have shown that contrastive "
    "learning bears phases that are flexible on a fine scale of time.",
)
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #009E73; --bad: #D55E00; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; padding: 0 1.2em; max-width: 72em; }
h1 { font-size: 1.7em; line-height: 1.2; } h2 { margin-top: 2.2em; border-bottom: 1px solid var(--line); }
p, li { max-width: 50em; } .note { font-size: .85em; opacity: .8; }
nav a { margin-right: 1em; } figure { margin: 1.5em 0; break-inside: avoid; } figcaption { font-size: .9em; }
figure img { max-width: 100%; height: auto; background: white; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .82em; line-height: 1.3; }
th, td { padding: .25em .6em; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { background: var(--soft); vertical-align: bottom; } tr { break-inside: avoid; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.mimics, .confirmed { color: var(--good); font-weight: 600; }
.opposite, .refuted { color: var(--bad); font-weight: 600; }
.absent { font-weight: 600; } .undecided, .nottested { opacity: .65; }
details { margin: .6em 0; } summary { cursor: pointer; }
@media print { body { font-size: 10pt; max-width: none; } nav { display: none; } .wide { overflow: visible; } }
""".strip()
