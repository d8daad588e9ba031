"""Subsets of ImageNet-1k by class index (synsets sorted by name, from 0), as LGM's released code lists them.

ImageNet-100: Tian et al., Contrastive Multiview Coding, ECCV 2020. The ten-class subsets: Cazenavette et al., Dataset
Distillation by Matching Training Trajectories, CVPR 2022, and GLaD, CVPR 2023. Labels follow the order of the list.
"""

SUBSETS: dict[str, tuple[int, ...]] = {
    "imagenet-1k": tuple(range(1000)),
    "imagenet-birds": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "imagenet-fruits": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "imagenet-cats": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "imagenet-imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "imagenet-imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "imagenet-a": (255, 376, 984, 364, 500, 986, 333, 576, 148, 135),
    "imagenet-b": (129, 916, 90, 275, 995, 874, 102, 259, 685, 139),
    "imagenet-c": (565, 94, 554, 535, 92, 392, 291, 136, 324, 11),
    "imagenet-d": (9, 258, 13, 262, 19, 339, 321, 24, 93, 322),
    "imagenet-e": (816, 96, 100, 145, 739, 713, 783, 76, 688, 326),
    "imagenet-100": (
        452, 64, 374, 236, 993, 176, 882, 904, 503, 74, 57, 959, 953, 508, 872, 228, 122, 421, 599, 858,
        157, 449, 994, 608, 151, 209, 15, 876, 246, 766, 455, 857, 131, 119, 234, 90, 45, 936, 479, 272,
        665, 653, 659, 158, 960, 765, 908, 703, 407, 560, 317, 938, 724, 748, 331, 619, 120, 267, 155, 708,
        368, 772, 167, 494, 180, 431, 342, 854, 305, 54, 268, 667, 166, 277, 662, 798, 313, 498, 299, 222,
        682, 593, 775, 674, 592, 137, 758, 717, 606, 281, 796, 211, 620, 830, 544, 275, 242, 570, 99, 169,
    ),
}  # fmt: skip
